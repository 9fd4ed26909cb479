"""The mapper of devices that answer HTTP requests, or send them: `kubeedge mapper http`."""

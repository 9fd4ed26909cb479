"""The cloud side: hub, relay, controllers, tenants. It imports kubeedge; never the reverse."""

"""Finding devices that nobody has told us of: `kubeedge devices scan`."""

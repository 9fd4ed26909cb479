"""Images for cards and disks, from Debian's packages and ours: `make image BOARD=tiny`."""

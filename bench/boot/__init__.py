"""A card's image, started in an emulated machine with 128 MB: `make test-boot`."""

"""The mapper of GPIO lines."""

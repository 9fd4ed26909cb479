"""Other processors than that of the machine at hand."""

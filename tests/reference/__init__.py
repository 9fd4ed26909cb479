"""Reference implementations: what the C of src/_fastpath must agree with, written to be read. No product uses them."""

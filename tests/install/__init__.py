"""docs/INSTALL.md, word for word, in fresh Debian systems (`make fresh`)."""

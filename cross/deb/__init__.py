"""Debian packages of the agent and of the cloud side, made of the wheels (`make deb`)."""

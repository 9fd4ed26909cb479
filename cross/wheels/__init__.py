"""Wheels for other processors, made on this one (`make wheels`)."""

"""Video of cameras by RTSP (RFC 2326), and what a browser plays of it."""

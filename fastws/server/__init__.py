"""Listening sockets, the event loop, the life of a server. Layer 6."""

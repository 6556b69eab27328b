"""HTTP/1.1 and the upgrade: bytes and objects, no sockets. Layer 5."""

"""fastws: a WebSocket broadcast server."""

"""The client's side of a WebSocket."""

"""fastws beside other WebSocket servers: the same load, the same checks, interleaved rounds."""

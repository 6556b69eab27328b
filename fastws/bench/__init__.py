"""The load client: connections, a run, its result. Layer 6."""

"""What the feeds of `fastws serve` share: server, HTTP, counts, page. Layers 5 and 6."""

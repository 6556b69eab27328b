"""Lines of text as messages: what `fastws serve --source` serves. Layers 5 and 6."""

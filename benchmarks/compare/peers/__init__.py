"""The servers that are compared, each a program with the options of `serving.py`."""

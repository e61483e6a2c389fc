"""Frozen data, ports and errors: the words every other room speaks. No I/O."""

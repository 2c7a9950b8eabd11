"""Figures anyone can run: each a ratio against a baseline of the same run (`make bench`)."""

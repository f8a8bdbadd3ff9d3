"""Mounted images: one mount per user and node, and the process that ends it."""

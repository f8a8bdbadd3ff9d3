"""Resolving scripts into locks, by uv or pip-tools, or from an existing manifest."""

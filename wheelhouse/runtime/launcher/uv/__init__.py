"""What an unmodified `uv run` of a node gets: a cache, and a uv that starts the launcher."""

"""A bundle on disk: write, verify, prune, compare, show."""

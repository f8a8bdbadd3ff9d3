"""Downloading files: pool, resumable transfer, HTTP session, cache, credentials."""

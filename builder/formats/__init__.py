"""Additional formats of a bundle: a filled uv cache, ready environments, images."""

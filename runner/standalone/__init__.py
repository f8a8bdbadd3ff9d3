"""Single files that travel alone to nodes: probe, HPS execution script, network namespace."""

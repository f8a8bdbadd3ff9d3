"""The cache folder of a node or a building machine: list, verify, and remove its entries."""

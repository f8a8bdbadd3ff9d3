"""The connected side: scripts and targets in, locks and files out. Imports `wheelhouse` only."""

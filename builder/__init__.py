"""The connected side: scripts and targets in, a bundle out. Imports `wheelhouse` only."""

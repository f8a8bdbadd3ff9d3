"""The air-gapped side: a bundle and a script in, running jobs out. Imports `wheelhouse` only."""

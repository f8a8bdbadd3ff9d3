"""Engines that run jobs: this machine, Slurm, HPS. They do not import one another."""

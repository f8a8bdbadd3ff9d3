"""Jobs through Slurm."""

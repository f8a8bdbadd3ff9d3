"""Jobs as tasks of Slurm job arrays, which work in a folder that the nodes see."""

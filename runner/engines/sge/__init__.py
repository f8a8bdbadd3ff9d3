"""Jobs as tasks of Grid Engine array jobs, which work in a folder that the nodes see."""

"""Jobs as subjobs of PBS array jobs, which work in a folder that the nodes see."""

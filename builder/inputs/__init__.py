"""What a build starts from: scripts, the targets of each, and node files."""

"""What a build starts from: scripts, targets, node files, uv lockfiles, and the plan of both."""

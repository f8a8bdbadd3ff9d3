"""What nodes get besides packages: uv binaries and Python interpreters."""

"""What all commands share: options, progress, output, shell completion."""

"""The commands on bundles, and the options and output that all commands share."""

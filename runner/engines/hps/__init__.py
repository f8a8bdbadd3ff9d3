"""Jobs through HPS."""

"""What a site decides: rules for the contents of bundles, and exceptions that expire."""

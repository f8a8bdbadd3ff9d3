"""Known vulnerabilities and rule breaches of a bundle, found without a network."""

"""Review what a build found, before it is written: known vulnerabilities and rules."""

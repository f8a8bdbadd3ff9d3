"""The manifest of a bundle, its signature, and the policy of a node."""

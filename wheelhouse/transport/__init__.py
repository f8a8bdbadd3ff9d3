"""Archives of bundles: pack, unpack, merge."""

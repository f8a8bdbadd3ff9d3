"""Files on disk: safe paths, locks, atomic writes, commits, and the cache folder of a node."""

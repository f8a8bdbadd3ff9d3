"""What nodes run, and the base of everything else: standard library only, Python 3.9 or newer."""

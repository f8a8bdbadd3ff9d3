"""The commands `build` and `show`."""

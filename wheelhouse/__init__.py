"""The bundle itself: its format, manifest, index, verification and launcher.

The ground floor of the house: `builder` and `runner` stand on it, it imports neither.
"""

__version__ = "0.1.0"

"""The bundle: format, store, derived files, transport, signing. Imports neither side."""

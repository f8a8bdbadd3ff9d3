"""The engines, each in a module of its own; see `runner/engine.py` for what they are."""

"""Preparing an environment on a node: plan, interpreter, uv or pip, bytecode, cache cleanup."""

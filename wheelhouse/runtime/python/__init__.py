"""Pythons and what they run: interpreters, platforms, requirements, script metadata."""

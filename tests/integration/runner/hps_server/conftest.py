"""Fixtures of the embedded HPS."""

from tests.support.hps import connect, hps, module_home

__all__ = ["module_home", "hps", "connect"]

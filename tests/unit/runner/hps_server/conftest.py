"""Fixtures of the embedded HPS."""

from tests.support.hps import connect, hps, module_home

__all__ = ["connect", "hps", "module_home"]

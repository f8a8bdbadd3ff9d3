# /// script
# requires-python = "==3.12"
# dependencies = ["numpy", "matplotlib"]
# ///
"""Asks for what workload S asks for and does nothing: what is left of its time is the launcher's."""

"""Air-gapped bundles for Python scripts with inline dependencies (PEP 723)."""

__version__ = "0.1.0"

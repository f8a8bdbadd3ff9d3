# /// script
# requires-python = "==3.12"
# dependencies = [
#     "numpy", "pandas", "scipy", "scikit-learn", "pyvista", "matplotlib", "h5py", "jupyterlab",
#     "ansys-dpf-core", "ansys-mapdl-core",
# ]
# ///
"""Workload M: what an engineer's script may ask for. It is bundled by the benchmark, never run."""

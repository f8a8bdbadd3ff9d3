# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy"]
# ///
"""Deflection of a steel cantilever with a load at its end, by finite differences (m, N)."""

import json
from pathlib import Path

import numpy as np

YOUNGS_MODULUS = 210e9  # Pa
WIDTH = 0.05
POINTS = 401

values = json.loads(Path("input_parameters.json").read_text())
length, load, height = (float(values[name]) for name in ("length", "load", "height"))

# w'' = M / (E I) with M = load * (length - x), held at x = 0: w(0) = w'(0) = 0.
x = np.linspace(0, length, POINTS)
step = x[1] - x[0]
curvature = load * (length - x) / (YOUNGS_MODULUS * WIDTH * height**3 / 12)
matrix = np.zeros((POINTS, POINTS))
matrix[0, 0] = 1
matrix[1, 1] = 1
right = np.zeros(POINTS)
right[1] = curvature[0] * step**2 / 2
for row in range(2, POINTS):
    matrix[row, row - 2 : row + 1] = 1, -2, 1
    right[row] = curvature[row - 1] * step**2
deflection = np.linalg.solve(matrix, right)

np.savetxt(
    "deflection.csv",
    np.column_stack([x, deflection]),
    delimiter=",",
    header="x,deflection",
    comments="",
)
Path("output_parameters.json").write_text(json.dumps({"deflection": float(deflection[-1])}))
print(f"{length} m, {load} N, {height} m: {deflection[-1] * 1000:.2f} mm")

# /// script
# requires-python = "==3.12"
# dependencies = ["numpy", "matplotlib"]
# ///
"""Plot sin(x) and save it as plot.png."""

import matplotlib as mpl
import numpy as np

mpl.use("Agg")  # a node has no screen

import matplotlib.pyplot as plt

x = np.linspace(0, 2 * np.pi, 500)

figure, axes = plt.subplots()
axes.plot(x, np.sin(x))
axes.set(xlabel="x", ylabel="sin(x)", title="sin(x)")
axes.grid(visible=True)
figure.savefig("plot.png", dpi=200)

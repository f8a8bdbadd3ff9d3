# /// script
# requires-python = "==3.12.*"
# dependencies = ["numpy", "matplotlib"]
# ///
"""Plot a sine, as the script of the public page does, and save it as plot.png."""

import matplotlib as mpl

mpl.use("Agg")  # a node has no screen

import matplotlib.pyplot as plt
import numpy as np

times = np.linspace(0.0, 10.0, 100)
figure, axes = plt.subplots()
axes.plot(times, np.sin(times))
axes.set(xlabel="Time [s]", ylabel="Displacement [cm]")
figure.savefig("plot.png", dpi=200)

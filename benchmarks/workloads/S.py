# /// script
# requires-python = "==3.12"
# dependencies = ["numpy", "matplotlib"]
# ///
"""Workload S: a plot job. Draws a damped oscillation and writes eval.png into the job's own
directory.
"""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

time = np.linspace(0.0, 10.0, 500)
figure, axes = plt.subplots()
axes.plot(time, np.exp(-0.3 * time) * np.cos(4.0 * time))
figure.savefig("eval.png")

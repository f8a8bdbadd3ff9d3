# /// script
# requires-python = ">=3.10"
# dependencies = ["example-site-sections>=1.2", "tabulate"]
#
# [tool.uv.sources]
# example-site-sections = { index = "site" }
#
# [[tool.uv.index]]
# name = "site"
# url = "./index"
# format = "flat"
# explicit = true
# ///
"""Which section is stiff enough? One table, with the site's own package and a public one."""

from pathlib import Path

from sections import rectangle, tube
from tabulate import tabulate

LENGTH, LOAD, YOUNGS_MODULUS = 2.0, 800.0, 210e9

rows = []
for name, moment in [("bar 40 x 60", rectangle(0.04, 0.06)), ("tube 60 x 4", tube(0.06, 0.004))]:
    deflection = LOAD * LENGTH**3 / (3 * YOUNGS_MODULUS * moment)
    rows.append((name, f"{deflection * 1000:.2f} mm"))
table = tabulate(rows, headers=["section", "sinks by"])
Path("beam.txt").write_text(table + "\n")
print(table)

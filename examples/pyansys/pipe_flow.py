# /// script
# requires-python = ">=3.10"
# dependencies = ["ansys-units"]
# ///
"""Water in a pipe: Reynolds number and pressure loss, computed with units."""

import json
from pathlib import Path

from ansys.units import Quantity, UnitSystem

density = Quantity(998.2, "kg m^-3")
viscosity = Quantity(1.002e-3, "Pa s")
diameter = Quantity(2.0, "inch")
length = Quantity(0.25, "km")
speed = Quantity(4.5, "ft s^-1")

reynolds = (density * speed * diameter / viscosity).to("").value
friction = 0.316 / reynolds**0.25  # Blasius: smooth pipes, 4000 < Re < 100000
loss = (density * speed * speed * length / diameter * friction / 2).to("Pa")

british = UnitSystem(system="BT")
result = {
    "reynolds": round(reynolds),
    "friction": round(friction, 5),
    "loss_kPa": round(loss.to("kPa").value, 2),
    "loss_psi": round(loss.to("psi").value, 2),
    "density_slug_ft3": round(density.convert(british).value, 4),
}
Path("pipe_flow.json").write_text(json.dumps(result, indent=1) + "\n")
print(f"Re = {result['reynolds']}, loss = {result['loss_kPa']} kPa = {result['loss_psi']} psi")

# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["ansys-units", "pint"]
# ///
import ansys.units
import pint

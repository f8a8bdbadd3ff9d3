"""Write summary.csv: the last line of each deflection.csv below a folder, as one table.

python3 collect.py results
"""

import csv
import sys
from pathlib import Path


def main() -> int:
    """Write the table; the exit code is 1 where there is nothing to collect."""
    results = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    curves = sorted(results.glob("*/deflection.csv"))
    if not curves:
        print(f"there is no */deflection.csv in {results}", file=sys.stderr)
        return 1
    with Path("summary.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["job", "length", "deflection"])
        for curve in curves:
            length, deflection = curve.read_text().splitlines()[-1].split(",")
            table.writerow([curve.parent.name, f"{float(length):.3f}", f"{float(deflection):.6f}"])
    print(f"{len(curves)} jobs in summary.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main())

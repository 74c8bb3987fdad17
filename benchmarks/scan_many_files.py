"""How long does a directory of small models take to scan, against the other scanners that take a directory?

Run: python benchmarks/scan_many_files.py [--full]   (400 files; with --full 2,000)
"""

from __future__ import annotations

import json
import pickle

from measure import checkpoint, options, scratch
from scanners import report


def main() -> None:
    """Measure."""
    asked = options(__doc__)
    files = 2_000 if asked.full else 400
    with scratch() as folder:
        models = folder / "models"
        models.mkdir()
        checkpoint(folder / "one.pt", 10, 64)
        model = (folder / "one.pt").read_bytes()
        words = pickle.dumps({f"word{index}": index for index in range(500)}, protocol=4)
        for index in range(files):
            name, data = (f"{index}.pt", model) if index % 2 else (f"{index}.pkl", words)
            (models / name).write_bytes(data)
        print(json.dumps(report("scan_many_files", models, rounds=asked.rounds, target=1.0, files=files)))


if __name__ == "__main__":
    main()

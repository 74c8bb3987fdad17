"""How long does a checkpoint of very many small tensors take to scan, against the other scanners?

Run: python benchmarks/scan_many_tensors.py [--full]   (5,000 tensors; with --full 20,000)
"""

from __future__ import annotations

import json

from measure import checkpoint, options, scratch
from scanners import report


def main() -> None:
    """Measure."""
    asked = options(__doc__)
    tensors = 20_000 if asked.full else 5_000
    with scratch() as folder:
        path = folder / "model.pt"
        checkpoint(path, tensors, 16)
        print(json.dumps(report("scan_many_tensors", path, rounds=asked.rounds, target=1.0, tensors=tensors)))


if __name__ == "__main__":
    main()

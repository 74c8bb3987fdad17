"""How long does one small file take to scan, start of the process included, against the other scanners?

Run: python benchmarks/scan_small.py
"""

from __future__ import annotations

import json
import pickle

from measure import checkpoint, options, scratch
from scanners import report


def main() -> None:
    """Measure."""
    asked = options(__doc__)
    rounds = max(asked.rounds, 15)  # a start of some milliseconds is disturbed by anything
    with scratch() as folder:
        plain = folder / "small.pkl"
        plain.write_bytes(pickle.dumps({"a": 1, "b": [1, 2, 3]}))
        print(json.dumps(report("scan_small", plain, rounds=rounds, target=1.0, pickles=True, stream="a pickle")))
        path = folder / "small.pt"
        checkpoint(path, 10, 64)
        print(json.dumps(report("scan_small", path, rounds=rounds, target=1.0, stream="a checkpoint")))


if __name__ == "__main__":
    main()

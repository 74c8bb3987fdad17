"""How long does a pickle with millions of opcodes take to scan, against the other scanners?

Run: python benchmarks/scan_opcodes.py [--full]   (20 MB; with --full 100 MB: a dict of two million words)
"""

from __future__ import annotations

import json
import pickle

from measure import options, scratch
from scanners import report


def main() -> None:
    """Measure."""
    asked = options(__doc__)
    words = 2_000_000 if asked.full else 400_000
    with scratch() as folder:
        path = folder / "vocabulary.pkl"
        path.write_bytes(pickle.dumps({f"a word that is the number {index:09d}": index for index in range(words)}, protocol=4))
        print(json.dumps(report("scan_opcodes", path, rounds=asked.rounds, words=words)))


if __name__ == "__main__":
    main()

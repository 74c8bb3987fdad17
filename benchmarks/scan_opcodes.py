"""How long does a pickle with millions of opcodes take to scan, against the other scanners?

Run: python benchmarks/scan_opcodes.py [--full]   (20 MB: a dict of words; with --full also 100 MB, and 20 MB of nested lists of numbers)
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Final

from measure import options, scratch
from scanners import report


def _words(count: int) -> object:
    return {f"a word that is the number {index:09d}": index for index in range(count)}


def _numbers(count: int) -> object:
    return [[index, index * 0.5, None, (index & 255, True), {"id": index}] for index in range(count)]


STREAMS: Final[dict[str, tuple[Callable[[int], object], int, bool]]] = {
    "20 MB of words": (_words, 465_000, False),
    "100 MB of words": (_words, 2_325_000, True),
    "20 MB of numbers": (_numbers, 500_000, True),
}
"""What it is → (made by, of so many things, only with --full)."""


def main() -> None:
    """Measure."""
    asked = options(__doc__)
    with scratch() as folder:
        for name, (make, count, full) in STREAMS.items():
            if full and not asked.full:
                continue
            path = folder / "vocabulary.pkl"
            path.write_bytes(pickle.dumps(make(count), protocol=4))
            print(json.dumps(report("scan_opcodes", path, rounds=asked.rounds, target=0.05, pickles=True, stream=name)))


if __name__ == "__main__":
    main()

"""How long does a large checkpoint take to scan, against the other scanners? Its stream is short, its storages are not.

Run: python benchmarks/scan_checkpoint.py [--full]   (256 MB of 300 tensors; with --full 1 GB)
"""

from __future__ import annotations

import json

from measure import checkpoint, options, scratch
from scanners import report


def main() -> None:
    """Measure."""
    asked = options(__doc__)
    size = (1 << 30) if asked.full else (1 << 28)
    with scratch() as folder:
        path = folder / "model.pt"
        checkpoint(path, 300, size // 4 // 300)
        print(json.dumps(report("scan_checkpoint", path, rounds=asked.rounds, target=1.0, tensors=300)))


if __name__ == "__main__":
    main()

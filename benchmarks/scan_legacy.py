"""How long does a file of torch before 1.6 take to scan, against the other scanners? Five pickles, then the storages.

Run: python benchmarks/scan_legacy.py [--full]   (5,000 tensors; with --full 20,000)
"""

from __future__ import annotations

import json

from measure import options, scratch
from scanners import report


def main() -> None:
    """Measure."""
    import torch

    asked = options(__doc__)
    tensors = 20_000 if asked.full else 5_000
    with scratch() as folder:
        path = folder / "model.pt"
        state = {f"layers.{index}.weight": torch.arange(16.0) + index for index in range(tensors)}
        torch.save(state, path, _use_new_zipfile_serialization=False)
        print(json.dumps(report("scan_legacy", path, rounds=asked.rounds, target=1.0, tensors=tensors)))


if __name__ == "__main__":
    main()

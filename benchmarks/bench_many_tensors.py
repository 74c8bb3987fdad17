"""How long does loading 20,000 tensors of 64 floats take, against torch.load and safetensors?

Run: python benchmarks/bench_many_tensors.py
"""

from __future__ import annotations

import measure


def main() -> None:
    """Measure, and print one JSON line."""
    chosen = measure.options(__doc__)
    import torch
    from safetensors.torch import load_file, save_file

    import safeload

    count = 20_000
    with measure.scratch() as directory:
        path, plain = directory / "m.pt", directory / "m.safetensors"
        save_file(measure.checkpoint(path, count, 64), plain)
        times = measure.in_turns(
            {
                "safeload": lambda: safeload.load(path, lock=False, policy=measure.POLICY),
                "torch": lambda: torch.load(path, weights_only=True),
                "safetensors": lambda: load_file(plain),
                "safeload_safetensors": lambda: safeload.load(plain, lock=False, policy=measure.POLICY),
            },
            chosen.rounds,
        )
    measure.emit(
        "many_tensors", times, {"to_torch": ("safeload", "torch", 0.1), "to_safetensors": ("safeload", "safetensors", 0.5)}, tensors=count
    )


if __name__ == "__main__":
    main()

"""How long does a conversion to safetensors take, whole process, against a script with torch.load and save_file?

Run: python benchmarks/bench_convert.py [--full]

Before each run everything that was written is on the disk. safeload's own output is, too, when it ends (`fsync`); the script's is not.

Peak memory is the process's largest resident set, in MB, as the kernel counts it. With --full, a file of 4 GB is converted once, too,
for its peak memory alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import measure

SCRIPT: Final = (
    "import sys, torch; from safetensors.torch import save_file;"
    " save_file(torch.load(sys.argv[1], weights_only=True), sys.argv[2])"
)
_LARGE: Final = 4 << 30
PEAK: Final = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]);"
    " print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
)


def run(arguments: list[str], peaks: list[int]) -> None:
    """Run one process and keep its peak memory."""
    tree = os.environ.get("SAFELOAD_BENCH_TREE", str(measure.ROOT))
    with tempfile.TemporaryFile() as errors:
        done = subprocess.run(
            [sys.executable, "-c", PEAK, sys.executable, *arguments],
            stdout=subprocess.PIPE, stderr=errors, check=False, env={**os.environ, "PYTHONPATH": tree}, text=True,
        )  # fmt: skip
        errors.seek(0)
        if done.returncode:
            raise SystemExit(errors.read().decode())
    peaks.append(int(done.stdout.split()[-1]))


def cleared(target: Path) -> None:
    """Remove what the other side wrote, and wait for the disk: or each side would pay for the other's output."""
    target.unlink(missing_ok=True)
    os.sync()


def large(path: Path, target: Path) -> dict[str, object]:
    """Convert 4 GB once."""
    peak: list[int] = []
    measure.checkpoint(path, 64, _LARGE // 256)
    cleared(target)
    run(["-m", "safeload", "convert", str(path), str(target)], peak)
    return {"large_bytes": _LARGE, "large_peak_mb": peak[0] // 1024, "large_peak_target_mb": 250}


def main() -> None:
    """Measure, and print one JSON line."""
    chosen = measure.options(__doc__)
    nbytes = (1 << 30) if chosen.full else (1 << 28)
    peaks: dict[str, list[int]] = {"safeload": [], "script": []}
    with measure.scratch() as directory:
        path, target = directory / "m.pt", directory / "m.safetensors"
        measure.checkpoint(path, 64, nbytes // 256)
        times = measure.in_turns(
            {
                "safeload": lambda: run(["-m", "safeload", "convert", str(path), str(target)], peaks["safeload"]),
                "script": lambda: run(["-c", SCRIPT, str(path), str(target)], peaks["script"]),
            },
            chosen.rounds,
            between=lambda: cleared(target),
        )
        memory: dict[str, object] = {f"{name}_peak_mb": max(found) // 1024 for name, found in peaks.items()}
        if chosen.full:
            memory |= large(path, target)
    measure.emit("convert", times, {"ratio": ("safeload", "script", 0.5)}, bytes=nbytes, peak_target_mb=200, **memory)


if __name__ == "__main__":
    main()

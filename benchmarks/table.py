"""Write docs/benchmarks/README.md, ratios.json and the plots from the benchmarks' JSON lines, or compare with the committed ratios.

Run: python benchmarks/table.py results.jsonl [--check]

Plots are drawn where matplotlib is installed. `--check` changes nothing: it exits with 1 when a ratio is more than 1.5 times the
committed one, which is far outside what a quiet machine varies by.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parents[1] / "docs" / "benchmarks"
MARGIN: Final = 1.5
HEAD: Final = """\
# Benchmarks

Written by `python benchmarks/table.py`, from what `./run bench -- --full` prints; every line is one program in `benchmarks/`, with both
sides in the same run, in turns. A ratio is safeload's median over the other side's: below 1, safeload is faster. *best* is the ratio
of the fastest runs, which a busy machine disturbs least.

"""


def rows(results: list[dict[str, Any]]) -> list[tuple[str, float, float, float]]:
    """Name, ratio, ratio of the best runs and target of everything that has a target."""
    found = []
    for result in results:
        part = "".join(f"{result[key]} " for key in ("stream", "axis") if key in result)
        for key, value in result.items():
            if f"{key}_target" in result:
                found.append((f"{result['bench']} {part}{key}", value, result[f"{key}_best"], result[f"{key}_target"]))
    return found


def verdict(ratio: float, best: float, target: float) -> str:
    """The median decides; that only the fastest runs reach a target is said, and is not the same."""
    return "met" if ratio <= target else "missed, but for the fastest runs" if best <= target else "missed"


def machine(result: dict[str, Any]) -> str:
    """What it was measured on."""
    return (
        f"{result.get('cpu')}, {result.get('cores')} cores, Python {result.get('python')}, torch {result.get('torch')},"
        f" compiled machine: {result.get('compiled')}"
    )


def lines_of(results: list[dict[str, Any]]) -> list[str]:
    """One table."""
    found = ["| benchmark | ratio | best | target | |", "|---|---:|---:|---:|---|"]
    for name, ratio, best, target in rows(results):
        found.append(f"| {name} | {ratio:.3f} | {best:.3f} | {target:.3f} | {verdict(ratio, best, target)} |")
    return found


def registry() -> list[str]:
    """Of `scan_registry.py --full`, which takes as long as all others together and is run apart: the line that it printed."""
    found = [result for result in read(HERE / "registry.jsonl") if "failed" not in result]
    lines = []
    for result in found:
        lines.append(f"\n## A registry of {result['files']:,} small files\n")
        lines.append(f"Measured on {machine(result)}. The program printed `registry.jsonl`.\n")
        lines += lines_of([result])
        lines += ["\n| command | files | seconds, median | files a second | peak of one process |", "|---|---:|---:|---:|---:|"]
        for name, files, command in (
            ("safeload", "files", "`safeload scan`"), ("safeload_2", "files", "`safeload scan --jobs 2`"),
            ("safeload_dask", "files", "`safeload scan --engine dask://…`, two workers"), ("picklescan", "files", "picklescan"),
            ("safeload_part", "part_files", "`safeload scan`, of a part"), ("modelaudit", "part_files", "modelaudit, of that part"),
        ):  # fmt: skip
            if f"{name}_s" in result:
                cells = f"{result[files]:,} | {result[f'{name}_s']} | {result[f'{name}_files_per_s']} | {result[f'{name}_peak_mb']} MB"
                lines.append(f"| {command} | {cells} |")
    return lines


def text(results: list[dict[str, Any]]) -> str:
    """The page."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    system = f"{platform.system()} {platform.release()}; load average when written: {load:.1f}"
    whole = next((result for result in results if result.get("torch")), results[0])
    lines = [HEAD + f"Measured on {machine(whole)}, {system}.\n", *lines_of(results)]
    for result in results:
        if result["bench"] == "scaling":
            axis = result["axis"]
            if (HERE / f"{axis}.png").exists():
                lines.append(f"\n![load time against {axis}]({axis}.png)")
            lines.append(f"\nLoad time against {axis}: time per unit at the largest size over the second largest is {result['straight']}.")
            lines.append("\n".join(f"* {point}" for point in result["points"]))
    if others := [result for result in read(HERE / "elsewhere.jsonl") if "failed" not in result]:
        lines.append(f"\n## On a larger machine\n\nMeasured on {machine(others[0])}. The programs printed `elsewhere.jsonl` there.\n")
        lines += lines_of(others)
    lines += registry()
    notes = HERE / "notes.md"
    return "\n".join(lines) + "\n" + ("\n" + notes.read_text(encoding="utf-8") if notes.exists() else "")


def plot(results: list[dict[str, Any]]) -> None:
    """Draw load time against tensors and bytes."""
    if importlib.util.find_spec("matplotlib") is None:
        print("no matplotlib: no plots", file=sys.stderr)
        return
    importlib.import_module("matplotlib").use("Agg")
    plt: Any = importlib.import_module("matplotlib.pyplot")

    for result in results:
        if result["bench"] != "scaling":
            continue
        axis, points = result["axis"], result["points"]
        figure, axes = plt.subplots(figsize=(6, 4))
        for side in ("safeload", "torch"):
            axes.loglog([point[axis] for point in points], [point[f"{side}_ms"] for point in points], marker="o", label=side)
        axes.set_xlabel(axis)
        axes.set_ylabel("milliseconds")
        axes.legend()
        figure.tight_layout()
        figure.savefig(HERE / f"{axis}.png", dpi=100)
        plt.close(figure)


def check(results: list[dict[str, Any]]) -> int:
    """Compare with the committed ratios."""
    committed = json.loads((HERE / "ratios.json").read_text(encoding="utf-8"))
    worse = [
        f"{name}: {best:.3f}, and {committed[name]:.3f} is committed"
        for name, _, best, _ in rows(results)
        if name in committed and best > committed[name] * MARGIN
    ]
    print("\n".join(worse) or "no ratio is worse than the margin allows")
    return 1 if worse else 0


def read(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file; none where there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.startswith("{")]


def main() -> int:
    """Read the lines, and do what was asked."""
    results = [result for result in read(Path(sys.argv[1])) if "failed" not in result]
    if "--check" in sys.argv:
        return check(results)
    HERE.mkdir(parents=True, exist_ok=True)
    plot(results)
    (HERE / "README.md").write_text(text(results), encoding="utf-8")
    ratios = {name: round(best, 4) for name, _, best, _ in rows(results)}
    (HERE / "ratios.json").write_text(json.dumps(ratios, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What do a policy file and a lockfile that have not changed add to a load, in one process?

Run: python benchmarks/bench_overhead.py [--full] [--rounds N]

The file is small, so that parsing shows and hashing does not. The policy is as long as real ones: grants, rules, identities of
signers; the lockfile pins 200 files, 2,000 with --full. `bench_signature.py` has the same for signatures.
"""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path
from typing import Any, Final

import measure

EXTRA_MS: Final = 5.0
"""What signatures, lock and policy may add to a repeated load, in milliseconds."""

POLICY: Final = """
[tool.other]
key = "value"

[tool.safeload]
unpinned = "allow"
allow-globals = ["argparse.Namespace", "omegaconf.dictconfig.DictConfig", "numpy.matrix"]
ignore-paths = ["*.md", "*.txt"]

[[tool.safeload.rule]]
models = "acme/*"
signers = { all = ["acme-release"] }

[[tool.safeload.rule]]
models = "lab/*"
signers = { any = ["alice", "bob"] }

[tool.safeload.signer.acme-release]
issuer = "https://token.actions.githubusercontent.com"
identity = "https://github.com/acme/models/.github/workflows/release.yml@refs/tags/*"

[[tool.safeload.suppress]]
rule = "SL126"
path = "old/*.pt"
reason = "written by a tool of ours"
expires = 2100-01-01
"""


def prepare(folder: Path, pinned: int) -> None:
    """Write the model, the policy and the lock."""
    import torch

    import safeload

    torch.save({f"layer{index}.weight": torch.ones(8) for index in range(20)}, folder / "model.pt")
    os.chdir(folder)
    safeload.lock("model.pt", lock=folder / "safeload.lock")
    text = (folder / "safeload.lock").read_text(encoding="utf-8")
    head, mark, first = text.partition("[[model]]")
    block, end, tail = first.partition("\n[end]")
    others = (f"other{index}" for index in range(pinned - 1))
    more = "".join(mark + block.replace("model.pt", f"{name}.pt").replace('"model"', f'"{name}"') for name in others)
    (folder / "safeload.lock").write_text(head + mark + block + more + end + tail, encoding="utf-8")
    (folder / "here").mkdir()
    (folder / "here" / "pyproject.toml").write_text(POLICY, encoding="utf-8")


def main() -> None:
    """Measure, and print one JSON line."""
    chosen = measure.options(__doc__)
    import safeload

    with measure.scratch() as top:
        prepare(top, 2_000 if chosen.full else 200)
        model, lock, policy = top / "model.pt", top / "safeload.lock", top / "here" / "pyproject.toml"
        sides: dict[str, measure.Side] = {
            "bare": lambda: safeload.load(model, policy=measure.POLICY, lock=False),
            "policy": lambda: safeload.load(model, policy=policy, lock=False),
            "lock": lambda: safeload.load(model, policy=measure.POLICY, lock=lock),
            "both": lambda: safeload.load(model, policy=policy, lock=lock),
        }
        times = measure.in_turns(sides, max(chosen.rounds, 100 if chosen.full else 30), warm=3)
        os.chdir(measure.ROOT)
    result: dict[str, Any] = {"bench": "overhead", "pinned": 2_000 if chosen.full else 200}
    for name, taken in times.items():
        result[f"{name}_ms"] = round(statistics.median(taken), 3)
        if name != "bare":
            result[f"{name}_extra_ms"] = round(statistics.median(taken) - statistics.median(times["bare"]), 3)
    print(json.dumps({**result, "target_extra_ms": EXTRA_MS, "rounds": chosen.rounds, **measure.machine()}))


if __name__ == "__main__":
    main()

"""What does a required signature cost at load, first and repeated, against the same load without?

Run: python benchmarks/bench_signature.py [--full] [--rounds N]

*Repeated* loads take turns in one process, in which each signature was verified once. A *first* load is that of a new process,
torch and safeload imported; `cached` is the same with `verify = "cached"` and an answer in the cache directory. The signatures are
made here, the keyless ones with the in-process Sigstore of the tests, so nothing needs a network. The file is small: what is
measured is the checking, not the hashing.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import measure

EXTRA_MS: Final = 5.0
"""What signatures, lock and policy may add to a repeated load, in milliseconds."""

SIGNERS: Final = ("key", "keyless", "model")
FIRST: Final = """
import sys, time
import torch, safeload
start = time.perf_counter()
safeload.load("m/model.pt", policy={"signature": sys.argv[1], "verify": sys.argv[2]})
print((time.perf_counter() - start) * 1000)
"""


def prepare(folder: Path, signer: str) -> None:
    """Sign and lock a small model in its own directory."""
    from cryptography.hazmat.primitives.asymmetric import ec

    from safeload.cli import run
    from tests.fake_sigstore import FakeSigstore
    from tests.forge_signed import make_model, write_keys

    make_model(folder / "m")
    os.chdir(folder)
    target = "m" if signer == "model" else "m/model.pt"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if signer == "key":
            write_keys(Path(), "k", ec.SECP256R1())
            done = [run(["trust", "add", "release", "--public-key", "k.pub"]), run(["sign", target, "--key", "k.pem"])]
        else:
            with FakeSigstore() as sigstore:
                Path("config.json").write_text(sigstore.trust_config, encoding="utf-8")
                Path("root.json").write_text(sigstore.trusted_root, encoding="utf-8")
                who = ["--identity", "me@example.org", "--issuer", "https://issuer.example", "--trust-root", "root.json"]
                token = sigstore.token(sub="me@example.org", email="me@example.org")
                done = [run(["trust", "add", "release", *who]), run(["sign", target, "--token", token, "--trust-config", "config.json"])]
        done.append(run(["lock", "m", "--require", "release"]))
    if any(done):
        raise SystemExit(f"could not prepare {signer}: {done}")


def repeated(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Return milliseconds of loads in one process, for each signer, without a signature, and without lock and policy."""
    import safeload

    def loading(signer: str, lock: bool, **policy: str) -> measure.Side:
        path = folder / signer / "m/model.pt"
        held = folder / signer / "safeload.lock" if lock else False
        return lambda: safeload.load(path, lock=held, policy=policy)

    sides = {"unlocked": loading("key", lock=False, unpinned="allow"), "locked": loading("key", lock=True, signature="off")}
    sides |= {signer: loading(signer, lock=True, signature="require") for signer in SIGNERS}
    return measure.in_turns(sides, rounds, warm=3)


def first(folder: Path, signature: str, verify: str) -> float:
    """Return milliseconds of the first load of a new process."""
    paths = [str(measure.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "XDG_CACHE_HOME": str(folder / "cache"), "SAFELOAD_CACHE": ""}
    command = [sys.executable, "-c", FIRST, signature, verify]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env, cwd=folder)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measure, and print one JSON line."""
    chosen = measure.options(__doc__)
    import torch  # noqa: F401 — its import is not what is measured

    with measure.scratch() as top:
        for signer in SIGNERS:
            prepare(top / signer, signer)
        os.chdir(top)
        times = repeated(top, max(chosen.rounds, 50 if chosen.full else 20))
        result: dict[str, Any] = {"bench": "signature"}
        for name, taken in times.items():
            result[f"{name}_repeated_ms"] = round(statistics.median(taken), 3)
        for name in ("locked", *SIGNERS):
            base = "unlocked" if name == "locked" else "locked"
            result[f"{name}_extra_ms"] = round(statistics.median(times[name]) - statistics.median(times[base]), 3)
            result[f"{name}_extra_ms_best"] = round(min(times[name]) - min(times[base]), 3)
            result[f"{name}_extra_ms_target"] = EXTRA_MS
        for signer in SIGNERS:
            first(top / signer, "require", "cached")  # fills the cache directory
            sides = {"without": ("off", "always"), "required": ("require", "always"), "cached": ("require", "cached")}
            found: dict[str, list[float]] = {name: [] for name in sides}
            for _ in range(chosen.rounds):
                for name, (signature, verify) in sides.items():
                    found[name].append(first(top / signer, signature, verify))
            result |= {f"{signer}_first_{name}_ms": round(statistics.median(taken), 1) for name, taken in found.items()}
        os.chdir(measure.ROOT)
    print(json.dumps({**result, "rounds": chosen.rounds, **measure.machine()}))


if __name__ == "__main__":
    main()

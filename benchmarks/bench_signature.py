"""What does a required signature cost at load, first and repeated, against the same load without?

Run: python benchmarks/bench_signature.py [--runs 5]
Each "first" is a new process; "repeated" is the second load in it. A key signs the file, so that nothing needs a network;
`--sigstore` measures the keyless case with the in-process Sigstore of the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPT = """
import sys, time
import torch, safeload
policy = {"signature": sys.argv[1], "verify": sys.argv[2]}
def once():
    start = time.perf_counter()
    safeload.load("model.pt", policy=policy)
    return (time.perf_counter() - start) * 1000
print(once(), min(once() for _ in range(5)))
"""


def environment(cache: str) -> dict[str, str]:
    """Return this process's environment, with a cache directory of its own."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "XDG_CACHE_HOME": cache}


def measure(signature: str, verify: str, cache: str) -> tuple[float, float]:
    """Return milliseconds of the first load of a new process, and of the best of five more."""
    command = [sys.executable, "-c", SCRIPT, signature, verify]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment(cache))
    first, repeated = map(float, done.stdout.split()[-2:])
    return first, repeated


def prepare(*, keyless: bool) -> None:
    """Sign and lock a small file in the working directory."""
    sys.path.insert(0, str(ROOT))
    from cryptography.hazmat.primitives.asymmetric import ec

    from safeload.cli import run
    from safeload.cli.demo_files import write_checkpoint
    from tests.fake_sigstore import FakeSigstore
    from tests.forge_signed import write_keys

    write_checkpoint(Path("model.pt"))
    if keyless:
        with FakeSigstore() as sigstore:
            Path("config.json").write_text(sigstore.trust_config)
            Path("root.json").write_text(sigstore.trusted_root)
            identity = ["--identity", "me@example.org", "--issuer", "https://issuer.example", "--trust-root", "root.json"]
            run(["trust", "add", "release", *identity])
            token = sigstore.token(sub="me@example.org", email="me@example.org")
            run(["sign", "model.pt", "--token", token, "--trust-config", "config.json", "--quiet"])
    else:
        write_keys(Path(), "k", ec.SECP256R1())
        run(["trust", "add", "release", "--public-key", "k.pub"])
        run(["sign", "model.pt", "--key", "k.pem", "--quiet"])
    run(["lock", "model.pt", "--require", "release", "--quiet"])


def main() -> None:
    """Measure all sides, interleaved, and print one line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--sigstore", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        devnull = os.open(os.devnull, os.O_WRONLY)
        stdout = os.dup(1)
        os.dup2(devnull, 1)
        prepare(keyless=options.sigstore)
        sys.stdout.flush()
        os.dup2(stdout, 1)
        sides = {"without": ("off", "always"), "required": ("require", "always"), "cached": ("require", "cached")}
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        measure("require", "cached", folder)  # fills the cache directory
        for _ in range(options.runs):
            for name, (signature, verify) in sides.items():
                taken[name].append(measure(signature, verify, folder))
        result: dict[str, object] = {"bench": "signature", "signer": "sigstore" if options.sigstore else "key", "runs": options.runs}
        for name, times in taken.items():
            result[f"{name}_first_ms"] = round(statistics.median(first for first, _ in times), 2)
            result[f"{name}_repeated_ms"] = round(statistics.median(repeated for _, repeated in times), 3)
        os.chdir(ROOT)
        print(json.dumps(result))


if __name__ == "__main__":
    main()

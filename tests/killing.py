"""Do something in a child process, kill it at a random moment, look at what it left; again and again.

Run by `tests/unit/test_killed.py` as `python -m tests.killing KIND TIMES SEED DIRECTORY`: a process of its own, because it forks, and
one that has everything imported, so that the moments lie in the work and not in Python's start.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from safeload.conversion import convert, job
from safeload.conversion.cache import TwinCache
from safeload.lockfile import read
from safeload.pinning import lock
from safeload.policy import Policy
from safeload.source import Source
from tests.forge_conversion import plain_checkpoint

NAMES, NUMEL = 30, 20_000


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def killed(work: Callable[[], object], after: float | None) -> float:
    """Run `work` in a child, and kill it after so many seconds; returns how long it lived."""
    start = time.monotonic()
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return time.monotonic() - start


class Scene:
    """A directory in which something is done, and what may be seen in it afterwards."""

    def __init__(self, kind: str, top: Path) -> None:
        self.kind, self.top = kind, top
        os.chdir(top)
        os.environ["SAFELOAD_CACHE"] = str(top / "cache")
        self.source = plain_checkpoint(top / "model.pt", names=NAMES, numel=NUMEL)
        self.sha256 = digest(self.source)
        self.whole: dict[str, str] = {}
        if kind == "lock":
            lock(self.source)

    def work(self) -> None:
        """What is killed."""
        if self.kind == "lock":
            lock(self.source, convert=True)
        elif self.kind == "cache":
            with Source.open(self.source) as source:
                cache = TwinCache.here()
                assert cache is not None
                assert cache.make(source, self.sha256, Policy()) is not None
        else:
            shards = 300_000 if self.kind == "shards" else None
            convert(self.source, lock=False, force=self.kind == "force", max_shard_size=shards)

    def files(self) -> list[Path]:
        """Everything but the source."""
        return sorted(path for path in self.top.rglob("*") if path.is_file() and path != self.source)

    def reset(self) -> None:
        """Everything as before the first run."""
        for path in self.files():
            if self.kind == "lock" and path.name == "safeload.lock":
                continue
            path.unlink()
        if self.kind == "lock":
            lock(self.source, convert=False)
        if self.kind == "force":
            (self.top / "model.safetensors").write_bytes(b"old")

    def look(self) -> str:
        """Say what is there; raises when it is anything that must not be."""
        found = {str(path.relative_to(self.top)): digest(path) for path in self.files()}
        state = "nothing"
        for name, sha256 in found.items():
            base = name.rpartition("/")[2]
            if base == "safeload.lock" or (base.startswith(".") and not base.endswith(".tmp")):
                continue  # the lock is read below; guards, and spares of small files, are passed by and swept by their writers
            if self.kind == "force" and sha256 == hashlib.sha256(b"old").hexdigest():
                continue
            known = "model.safetensors" if name.endswith(".tmp") else name
            assert sha256 == self.whole[known], f"{name} is torn"
            state = "part"
        if set(self.whole) <= set(found) and all(found[name] == sha256 for name, sha256 in self.whole.items()):
            state = "whole"
        if self.kind == "lock":
            twin = read("safeload.lock").models[0].files[0].converted
            assert twin is None or found[twin.path] == twin.sha256, "the lock names what is not there"
            state = "whole" if twin is not None else "part" if state != "nothing" else state
        if self.kind == "cache":
            cache = TwinCache.here()
            assert cache is not None
            kept = cache.find(self.sha256)
            assert kept is None or digest(kept.path) == kept.sha256, "the record speaks of another file"
            state = "whole" if kept is not None else "part" if found else "nothing"
        assert state != "part" or self.kind in ("shards", "sidecar", "lock", "cache"), f"one file is there whole or not at all: {found}"
        return state


def main(kind: str, times: int, seed: int, top: Path) -> None:
    """Print one JSON line: how often what was seen."""
    if kind == "sidecar":
        job.SIDECAR_BYTES = 100  # type: ignore[misc]
    scene = Scene(kind, top)
    scene.reset()
    killed(scene.work, None)
    scene.reset()
    took = killed(scene.work, None)
    scene.whole = {str(path.relative_to(top)): digest(path) for path in scene.files() if not path.name.startswith((".", "safeload.lock"))}
    assert scene.look() == "whole"
    rng = random.Random(seed)
    seen: dict[str, int] = {}
    for _ in range(times):
        scene.reset()
        killed(scene.work, rng.uniform(0, took * 1.1))
        state = scene.look()
        seen[state] = seen.get(state, 0) + 1
        # Whatever was left, nothing stands in the way of the next run: no lock, no half of an output.
        if state != "whole":
            start = time.monotonic()
            killed(scene.work, None)
            assert scene.look() == "whole", f"after {state}, the next run does not go through"
            assert time.monotonic() - start < 20 * took + 30, "something waits for the dead"
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))

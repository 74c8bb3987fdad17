"""How fast is the walk of a pickle stream, against C `pickle.loads` of the same bytes and `pickletools.genops`?

Run: python benchmarks/bench_walk.py

One line per stream. `walk` judges only, `build` makes the values after that; `loads` is the C unpickler, with a persistent id
that does nothing where the stream has some. genops runs once: it is slow, and only its order of magnitude matters.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import measure


class Plain(pickle.Unpickler):
    """The C unpickler, for streams with persistent ids."""

    def persistent_load(self, pid: Any) -> Any:
        """Answer any with a storage of four bytes: it is the stream that is measured."""
        return STORAGES.setdefault(pid[0], EMPTY)

    def find_class(self, module: str, name: str) -> Any:
        """Give torch's rebuild function a stand-in that does nothing."""
        return nothing if name.startswith("_rebuild") else super().find_class(module, name)


EMPTY = object()
STORAGES: dict[str, object] = {}


def nothing(*args: object) -> None:
    """Stand for a rebuild function."""


def nested(depth: int) -> object:
    """One small object, as an optimizer's state or a configuration has them."""
    return {"id": depth, "tags": ["a", "b", depth], "box": (depth, 1.5, None), "on": True}


def streams(scale: float) -> dict[str, tuple[bytes, Callable[[bytes], object]]]:
    """The streams, and how C loads each."""
    many = int(1_000_000 * scale)
    with measure.scratch() as directory:
        path = Path(directory, "m.pt")
        measure.checkpoint(path, int(20_000 * scale), 64)
        with zipfile.ZipFile(path) as archive:
            checkpoint = archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))
    return {
        "dict_str_int": (pickle.dumps({f"key{index}": index for index in range(many)}, 2), pickle.loads),
        "floats": (pickle.dumps([index * 0.5 for index in range(2 * many)], 2), pickle.loads),
        "nested_objects": (pickle.dumps([nested(index) for index in range(many // 5)], 2), pickle.loads),
        "checkpoint_stream": (checkpoint, lambda data: Plain(io.BytesIO(data)).load()),
    }


def walked_and_built(view: memoryview) -> object:
    """Judge, then make the values."""
    from safeload.source import Limits
    from safeload.walk import walk
    from safeload.walk.model import Model, build

    seen = walk(view, limits=Limits())
    return build(seen, Model(seen))


def main() -> None:
    """Measure each stream, and print a line for each."""
    chosen = measure.options(__doc__)
    from safeload.source import Limits
    from safeload.walk import walk

    for name, (data, loads) in streams(1.0 if chosen.full else 0.2).items():
        view = memoryview(data)
        persistent = 1 if name == "checkpoint_stream" else 0
        sides: dict[str, measure.Side] = {
            "walk": partial(walk, view, limits=Limits(), persistent=persistent),
            "loads": partial(loads, data),
        }
        if not persistent:
            sides["walk_and_build"] = partial(walked_and_built, view)
        times = measure.in_turns(sides, chosen.rounds)
        start = time.perf_counter()
        opcodes = sum(1 for _ in pickletools.genops(data))
        times["genops"] = [(time.perf_counter() - start) * 1000]
        ratios = {"walk_to_loads": ("walk", "loads", 0.35), "walk_to_genops": ("walk", "genops", 1 / 40)}
        if not persistent:
            ratios["all_to_loads"] = ("walk_and_build", "loads", 1.35)
        measure.emit("walk", times, ratios, stream=name, bytes=len(data), opcodes=opcodes)


if __name__ == "__main__":
    main()

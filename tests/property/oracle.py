"""What the standard library's unpickler would import: run alone, with every class replaced by something that does nothing.

Reads length-prefixed streams from stdin, answers one JSON list a line: [module, name] of what was asked for, in order,
then how it ended. Started by test_oracle.py in a process of its own, with limits on memory and time.
"""

from __future__ import annotations

import io
import json
import pickle
import resource
import signal
import struct
import sys
from typing import Any

asked: list[list[str]] = []


class Nothing:
    """Stands for whatever a stream asks for: can be called, built, filled, and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return Nothing()

    def __setstate__(self, state: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass

    def add(self, item: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class Recorder(pickle.Unpickler):
    """Writes down every class that it is asked for."""

    def find_class(self, module: str, name: str) -> Any:
        asked.append([module, name])
        return type("Stand", (Nothing,), {})

    def persistent_load(self, pid: Any) -> Any:
        return Nothing()


def answer(data: bytes) -> list[list[str] | str]:
    """Unpickle one stream."""
    asked.clear()
    signal.setitimer(signal.ITIMER_PROF, 5)  # of processor time
    try:
        Recorder(io.BytesIO(data)).load()
        end = "loaded"
    except BaseException as error:  # noqa: BLE001 — whatever ends it, the name of it is the answer
        end = type(error).__name__
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return [*asked, end]


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))
    signal.signal(signal.SIGPROF, lambda *_: (_ for _ in ()).throw(TimeoutError()))
    source = sys.stdin.buffer
    while head := source.read(4):
        print(json.dumps(answer(source.read(struct.unpack("<I", head)[0]))))


if __name__ == "__main__":
    main()

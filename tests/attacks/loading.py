"""Loads files in a process with little memory: reads length-prefixed files from stdin, answers one JSON line each.

[name of the error of `load`, of `state_dict`, seconds of processor time]; "" where there is none. Started by test_loads_end.py;
whatever is forged there must end here, and in an error of ours.
"""

from __future__ import annotations

import io
import json
import resource
import struct
import sys
import time
import warnings
from collections.abc import Callable

MEMORY = 6 << 30  # of address space, of which torch itself takes a good part


def outcome(step: Callable[[], object]) -> str:
    """What a load ends in. An exception that is not ours ends the process."""
    import safeload

    try:
        value = step()
        repr(value) if type(value) is safeload.Inert else None
    except safeload.SafeloadError as error:
        text = str(error)
        assert len(text) < 20_000, len(text)
        assert "\x1b" not in text
        return type(error).__name__
    return ""


def main() -> None:
    import safeload
    import safeload.build

    warnings.simplefilter("ignore")
    safeload.build.torch_module()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    source = sys.stdin.buffer
    policy = {"unpinned": "allow"}
    while head := source.read(4):
        data = source.read(struct.unpack("<I", head)[0])
        start = time.process_time()
        answers = [
            outcome(lambda: safeload.load(io.BytesIO(data), policy=policy, lock=False)),  # noqa: B023 — called at once
            outcome(lambda: safeload.load(io.BytesIO(data), policy=policy, lock=False, unknown="inert")),  # noqa: B023
            outcome(lambda: safeload.state_dict(io.BytesIO(data), policy=policy, lock=False)),  # noqa: B023
        ]
        print(json.dumps([*answers, time.process_time() - start]), flush=True)


if __name__ == "__main__":
    main()

"""No stream that would import or call anything unmodelled is allowed: the standard library's unpickler is the witness."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from safeload.findings import Level
from safeload.walk import python3_name, walk
from safeload.walk.signatures import MODELLED
from tests import forge

COUNT = int(os.environ.get("SAFELOAD_FUZZ", "4000"))


def witness(streams: list[bytes]) -> list[list[Any]]:
    """Ask the oracle, in a process of its own."""
    script = Path(__file__).with_name("oracle.py")
    payload = b"".join(struct.pack("<I", len(data)) + data for data in streams)
    done = subprocess.run([sys.executable, str(script)], input=payload, capture_output=True, check=True, timeout=600)
    return [json.loads(line) for line in done.stdout.splitlines()]


def names_of(asked: list[list[str]]) -> list[set[str]]:
    """Each name as the stream writes it, and as Python 3 calls it: the oracle hears names before they are mapped."""
    return [{".".join(pair), ".".join(python3_name(*pair))} for pair in asked]


def test_what_the_unpickler_would_import_was_listed_by_the_walk() -> None:
    """Also where the unpickler breaks later: a payload in front of a broken opcode has run by then (nullifAI)."""
    rng = random.Random(1)
    streams = [forge.random_stream(rng) for _ in range(COUNT)]
    asked_somewhere = loaded = 0
    for data, (*heard, end) in zip(streams, witness(streams), strict=True):
        asked = names_of(heard)
        seen = walk(data, persistent=0)
        refused = seen.error is not None or any(found.level is not Level.NOTE for found in seen.findings)
        asked_somewhere += bool(asked)
        loaded += end == "loaded"
        if not refused:
            # Allowed: nothing that is asked for may be unmodelled.
            assert all(name & MODELLED.keys() for name in asked), (data, asked)
        tricked = any(found.rule == "SL120" for found in seen.findings)  # frames make C read other opcodes: refused
        assert refused or not tricked
        if seen.end is not None and not tricked:
            listed = set(seen.globals)
            assert all(name & listed for name in asked), (data, asked, seen.globals)
        elif asked:
            # The walk stops where a stream breaks; what C ran until *its* end must at least have refused the stream.
            assert refused, (data, asked)
    assert asked_somewhere > COUNT // 20
    assert loaded > COUNT // 20

"""What every attack test asserts, and the containers around a forged stream. Nothing forged here is ever unpickled."""

from __future__ import annotations

import importlib.util
import io

import pytest

import safeload
from safeload.errors import MissingExtraError, SafeloadError
from safeload.findings import Level, Outcome, Report
from tests import forge
from tests.forge_zip import torch_zip

TORCH = importlib.util.find_spec("torch") is not None
PAYLOAD = forge.call("os", "system", forge.TEXT("true"))
"""The opcodes of one dangerous call: os.system("true")."""

HOSTILE = forge.stream(forge.PROTO(2), PAYLOAD, forge.STOP)
PLAIN = forge.stream(forge.PROTO(2), forge.EMPTY_DICT, forge.STOP)


def scan(data: bytes) -> Report:
    """Scan bytes with no policy and no lockfile in force."""
    return safeload.scan(data, policy={}, lock=False)


def rules(report: Report, *levels: Level) -> set[str]:
    """The rules of a report's findings at these levels; at every level without any."""
    return {found.rule for found in report.findings if not levels or found.level in levels}


def refused(data: bytes, *wanted: str, subject: str | None = None, says: str | None = None, level: Level | None = None) -> Report:
    """Assert that a file is refused by a scan and by a load, and that the findings name the trick.

    Args:
        data: The file.
        wanted: Rules that must be among the findings.
        subject: A global that must be called dangerous.
        says: A part of a message.
        level: The worst level must be this one; by default error.
    """
    report = scan(data)
    summary = [(found.rule, found.level.value, found.message) for found in report.findings]
    assert report.decision.outcome is Outcome.REFUSED, (report.decision, report.error, summary)
    assert set(wanted) <= rules(report), summary
    if subject is not None:
        assert any(found.subject == subject and found.level is Level.ERROR for found in report.findings), summary
    if says is not None:
        assert any(says in found.message for found in report.findings), summary
    if level is None or level is Level.ERROR:
        assert rules(report, Level.ERROR), summary
    else:
        assert not rules(report, Level.ERROR), summary
        assert rules(report, level), summary
    loads_nothing(data)
    return report


def loads_nothing(data: bytes) -> None:
    """Assert that a load raises one of safeload's own errors; where torch is missing it cannot get that far."""
    if not TORCH:
        return
    with pytest.raises(SafeloadError) as caught:
        safeload.load(io.BytesIO(data), policy={"unpinned": "allow"}, lock=False)
    assert not isinstance(caught.value, MissingExtraError)


def checkpoint(stream: bytes, **members: bytes) -> bytes:
    """A torch zip around a data.pkl, with more members by name."""
    return torch_zip({"data.pkl": stream, "byteorder": b"little", **members, "version": b"3\n"})


def legacy(
    stream: bytes, *, magic: bytes | None = None, version: bytes | None = None, info: bytes | None = None, keys: bytes | None = None
) -> bytes:
    """A legacy torch file around an object's stream; every other stream may be replaced."""
    number = 0x1950A86A20F9469CFC6C
    first = forge.stream(forge.PROTO(2), forge.INT(number), forge.STOP)
    second = forge.stream(forge.PROTO(2), forge.INT(1001), forge.STOP)
    return (
        (magic or first)
        + (version or second)
        + (info or PLAIN)
        + stream
        + (keys or forge.stream(forge.PROTO(2), forge.EMPTY_LIST, forge.STOP))
    )

"""Every shape of gadget that a grammar gives: none is allowed, and what the unpickler would import is named in a finding."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Callable

from safeload.findings import Level, Outcome
from safeload.walk import python3_name
from safeload.walk.names import know
from tests.forge_attacks import PLAIN, checkpoint, legacy, scan
from tests.forge_gadgets import Forger
from tests.forge_zip import Part
from tests.forge_zip import forge as zip_file
from tests.property.test_oracle import names_of, witness

COUNT = int(os.environ.get("SAFELOAD_FUZZ", "2000"))
DECEPTIONS = {"SL120", "SL129"}

CONTAINERS: list[Callable[[bytes], bytes]] = [
    lambda data: data,
    checkpoint,
    legacy,
    gzip.compress,
    lambda data: PLAIN + data,
    lambda data: zip_file(Part("x.bin", data, method=8)),
    lambda data: zip_file(Part("a.zip", zip_file(Part("b", data)))),
]


def test_what_is_really_asked_for_is_named_and_nothing_is_allowed() -> None:
    """The oracle: the standard library's unpickler with every class replaced; what it is asked for, a finding must name.

    Ways out without a name, and none of them is "allowed": a frame that lies makes C read other opcodes; a stream may break before
    the name; and without PROTO, what breaks having named nothing dangerous is text as well as a stream, so nobody claims it.
    """
    rng = random.Random(int(os.environ.get("SAFELOAD_SEED", "20261124")))
    made = [Forger(rng).gadget() for _ in range(COUNT)]
    asked_for = 0
    for (data, name), (*heard, _) in zip(made, witness([data for data, _ in made]), strict=True):
        report = scan(data)
        rules = {found.rule for found in report.findings}
        assert report.decision.outcome is not Outcome.ALLOWED, data
        named = {found.subject for found in report.findings if found.subject}
        if report.format == "unknown":
            assert all(know(*pair).level is Level.WARNING for pair in heard), (data, heard)
            continue
        for spellings in names_of(heard):
            assert spellings & named or "SL120" in rules, (data, spellings, report.findings)
        wanted = {".".join(name), ".".join(python3_name(*name))}
        if any(spellings & wanted for spellings in names_of(heard)):
            asked_for += 1
            assert report.decision.outcome is Outcome.REFUSED, (data, report.error)
            assert wanted & named or rules & DECEPTIONS, (data, report.findings)
    assert asked_for > COUNT // 2


def test_no_container_makes_a_gadget_acceptable() -> None:
    """What is refused alone is refused wherever it lies, with the same name and at the same level."""
    rng = random.Random(7)
    for number in range(COUNT // 4):
        data, _ = Forger(rng).gadget()
        alone = scan(data)
        wrapped = scan(CONTAINERS[number % len(CONTAINERS)](data))
        assert wrapped.decision.outcome is not Outcome.ALLOWED, data
        named = {found.subject for found in alone.findings if found.subject and found.level is Level.ERROR}
        inside = {found.subject for found in wrapped.findings if found.subject and found.level is Level.ERROR}
        assert named <= inside, (data, named - inside, wrapped)

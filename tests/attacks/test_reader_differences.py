"""Streams that one reader takes for something else than another.

Where a scanner gives up, or sees data, the unpickler has run the payload.
"""

from __future__ import annotations

import pytest

from safeload.findings import Level
from tests import forge
from tests.forge_attacks import PAYLOAD, checkpoint, refused, scan

# Text operands that CPython's C unpickler reads and a decimal reader does not: (opcode, operand).
ODD = [
    ("INT", b"0x10"), ("INT", b"0b11"), ("INT", b"0o17"), ("INT", b"1_0"), ("INT", b"7\0"), ("INT", b"7\0junk"), ("INT", b" 7"),
    ("LONG", b"0x10L"), ("LONG", b"1_000L"), ("LONG", b"0b1"), ("LONG", b"+7L"),
]  # fmt: skip


@pytest.mark.parametrize(("opcode", "operand"), ODD)
def test_an_operand_in_an_odd_form_hides_nothing_behind_it(opcode: str, operand: bytes) -> None:
    """Scanners built on a stricter reader raise at the number and never come to the call."""
    data = forge.stream(forge.LINE(opcode, operand), forge.POP, PAYLOAD, forge.STOP)
    refused(data, "SL101", subject="os.system")


@pytest.mark.parametrize(("opcode", "operand"), ODD[:7] + ODD[7:10])
def test_an_operand_in_an_odd_form_is_a_finding_of_its_own(opcode: str, operand: bytes) -> None:
    """No pickler writes it: it is there for a reader that breaks on it."""
    data = forge.stream(forge.PROTO(2), forge.EMPTY_LIST, forge.LINE(opcode, operand), forge.APPEND, forge.STOP)
    refused(data, "SL122", level=Level.WARNING)


LEFT_OVER = {
    "a value": forge.stream(forge.INT(1), PAYLOAD),
    "two values": forge.stream(forge.INT(1), forge.NONE, PAYLOAD),
    "a MARK": forge.stream(forge.MARK, PAYLOAD),
    "marks in marks": forge.stream(forge.MARK, forge.MARK, forge.INT(1), PAYLOAD),
}


@pytest.mark.parametrize("before", LEFT_OVER.values(), ids=LEFT_OVER)
def test_what_is_left_on_the_stack_at_stop_hides_nothing(before: bytes) -> None:
    """cpython#127079: `pickletools.dis` raises, the unpickler loads.

    https://github.com/python/cpython/issues/127079
    """
    refused(forge.stream(forge.PROTO(2), before, forge.STOP), "SL101", "SL121", subject="os.system")


def test_what_is_left_on_the_stack_is_a_finding_without_a_payload_too() -> None:
    """It is how the payload's result is kept out of the way."""
    refused(forge.stream(forge.PROTO(2), forge.INT(1), forge.EMPTY_DICT, forge.STOP), "SL121", level=Level.WARNING)


PROTOCOLS = {
    "twice": forge.stream(forge.PROTO(2), forge.PROTO(4), PAYLOAD),
    "late": forge.stream(forge.PROTO(2), PAYLOAD, forge.PROTO(2)),
    "in the middle of the payload": forge.stream(
        forge.PROTO(2), forge.GLOBAL("os", "system"), forge.PROTO(2), forge.TEXT("true"), forge.TUPLE1, forge.REDUCE
    ),
    "not at all": PAYLOAD,
    "lower than the opcodes": forge.stream(forge.PROTO(0), PAYLOAD),
}


@pytest.mark.parametrize("stream", PROTOCOLS.values(), ids=PROTOCOLS)
def test_the_protocol_is_only_a_number(stream: bytes) -> None:
    """Some readers stop at a second PROTO, or at opcodes that the first did not announce; the unpickler does not."""
    refused(forge.stream(stream, forge.STOP), "SL101", subject="os.system")


@pytest.mark.parametrize("version", [6, 100, 255])
def test_a_protocol_that_does_not_exist_is_no_way_out(version: int) -> None:
    """The payload may stand in front of it."""
    refused(forge.stream(forge.PROTO(2), PAYLOAD, forge.PROTO(version), forge.STOP), "SL101", "SL129", subject="os.system")
    assert scan(forge.stream(forge.PROTO(version), PAYLOAD, forge.STOP)).decision.outcome != "allowed"


BODY = forge.stream(forge.TEXT("os"), forge.TEXT("system"), forge.STACK_GLOBAL, forge.TEXT("true"), forge.TUPLE1, forge.REDUCE, forge.STOP)
FRAMES = {
    "short": forge.stream(forge.FRAME(4), BODY),
    "of nothing": forge.stream(forge.FRAME(0), BODY),
    "one byte short": forge.stream(forge.FRAME(len(BODY) - 1), BODY),
    "nested": forge.stream(forge.FRAME(len(BODY) + 9), forge.FRAME(len(BODY)), BODY),
    "straddled by an operand": forge.stream(forge.FRAME(3), BODY),
    "straddled by text": forge.stream(forge.FRAME(5), forge.TEXT("x" * 40), forge.POP, BODY),
}


@pytest.mark.parametrize("stream", FRAMES.values(), ids=FRAMES)
def test_a_frame_that_ends_inside_an_opcode_is_a_deception(stream: bytes) -> None:
    """cpython#154848, cpython#128853, fickling#317: an operand that straddles a frame makes C run bytes that others show as data.

    https://github.com/python/cpython/issues/154848 https://github.com/python/cpython/issues/128853
    https://github.com/trailofbits/fickling/issues/317
    """
    data = forge.stream(forge.PROTO(4), stream)
    report = scan(data)
    assert report.decision.outcome == "refused"
    if "SL120" not in {found.rule for found in report.findings}:
        assert any(found.subject == "os.system" for found in report.findings)


@pytest.mark.parametrize("length", [len(BODY) + 1, 1 << 20, 1 << 31, 1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_a_frame_longer_than_the_data_is_refused_with_what_came_before(length: int) -> None:
    """A payload in front of the frame has run when the unpickler notices."""
    data = forge.stream(forge.PROTO(4), PAYLOAD, forge.POP, forge.FRAME(length), BODY)
    refused(data, "SL101", "SL129", subject="os.system")


BREAKS = {
    "an opcode that does not exist": b"\xff",
    "the end of the data": b"",
    "a text cut short": b"\x8c\xffabc",
    "text that is not UTF-8": b"\x8c\x02\xff\xfe",
    "an empty stack": forge.stream(forge.POP, forge.POP, forge.POP, forge.POP),
    "a memo entry never written": forge.GET(99),
    "an unhashable key": forge.stream(forge.EMPTY_DICT, forge.EMPTY_LIST, forge.NONE, forge.SETITEM),
    "a missing MARK": forge.TUPLE,
    "an out-of-band buffer": forge.RAW("NEXT_BUFFER", b""),
    "a negative length": forge.RAW("LONG4", b"\xff\xff\xff\xff"),
    "an odd number of items": forge.stream(forge.EMPTY_DICT, forge.MARK, forge.NONE, forge.SETITEMS),
    "a float that is none": forge.LINE("FLOAT", b"x"),
    "an integer that is none": forge.LINE("INT", b"x"),
    "a string without quotes": forge.LINE("STRING", b"x"),
    "a name without an end": b"cos",
    "a name that is not UTF-8": b"c\xff\xfe\nx\n",
}


@pytest.mark.parametrize("ending", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("head", [b"", forge.PROTO(2), forge.PROTO(4)], ids=["no-proto", "proto-2", "proto-4"])
def test_a_stream_broken_right_behind_the_payload_is_still_a_payload(head: bytes, ending: bytes) -> None:
    """nullifAI (2025): the payload comes first, the error after it; a scanner that stops at the error is blind.

    https://www.reversinglabs.com/blog/rl-identifies-malware-ml-model-hosted-on-hugging-face
    """
    data = forge.stream(head, PAYLOAD, ending)
    report = refused(data, "SL101", subject="os.system")
    assert "SL129" in {found.rule for found in report.findings}
    refused(checkpoint(data), "SL101", subject="os.system")


def test_trailing_bytes_behind_stop_do_not_unsay_what_was_found() -> None:
    """Text behind STOP made a scanner take the whole file for something else."""
    refused(forge.stream(forge.PROTO(2), PAYLOAD, forge.STOP, b"\n\n\t\t"), "SL101", subject="os.system")

"""Names of globals that a linear reader does not see: through the memo, behind decoys, written in odd opcodes, or spelt otherwise."""

from __future__ import annotations

import pytest

from safeload.findings import Level
from tests import forge
from tests.forge_attacks import checkpoint, refused, scan

OS, SYSTEM, TRUE = forge.TEXT("os"), forge.TEXT("system"), forge.TEXT("true")
CALL = forge.stream(forge.STACK_GLOBAL, TRUE, forge.TUPLE1, forge.REDUCE, forge.STOP)


def _long(name: str, index: int) -> bytes:
    return forge.RAW(name, index.to_bytes(4, "little"))


# What leaves the texts "os" and "system" on the stack, one above the other.
OPERANDS = {
    "through the memo by PUT and GET in text": forge.stream(
        OS,
        forge.LINE("PUT", b"2"),
        forge.POP,
        SYSTEM,
        forge.LINE("PUT", b"3"),
        forge.POP,
        forge.TEXT("torch"),
        forge.LINE("PUT", b"0"),
        forge.POP,
        forge.TEXT("LongStorage"),
        forge.LINE("PUT", b"1"),
        forge.POP,
        forge.LINE("GET", b"2"),
        forge.LINE("GET", b"3"),
    ),
    "through the memo by BINPUT": forge.stream(OS, forge.PUT(7), forge.POP, SYSTEM, forge.PUT(9), forge.POP, forge.GET(7), forge.GET(9)),
    "through the memo by LONG_BINPUT": forge.stream(
        OS,
        _long("LONG_BINPUT", 70_000),
        forge.POP,
        SYSTEM,
        _long("LONG_BINPUT", 1 << 20),
        forge.POP,
        _long("LONG_BINGET", 70_000),
        _long("LONG_BINGET", 1 << 20),
    ),
    "by MEMOIZE behind a PUT that moves its index": forge.stream(
        forge.TEXT("torch"),
        forge.PUT(1),
        forge.POP,
        OS,
        forge.MEMOIZE,
        forge.POP,
        SYSTEM,
        forge.PUT(5),
        forge.POP,
        forge.GET(1),
        forge.GET(5),
    ),
    "in a memo entry that was written again": forge.stream(
        forge.TEXT("torch"), forge.PUT(0), forge.POP, OS, forge.PUT(0), forge.POP, forge.GET(0), SYSTEM
    ),
    "below a decoy that POP takes away": forge.stream(OS, SYSTEM, forge.TEXT("torch"), forge.TEXT("Size"), forge.POP, forge.POP),
    "below a decoy that POP_MARK takes away": forge.stream(OS, SYSTEM, forge.MARK, forge.TEXT("torch"), forge.TEXT("Size"), forge.POP_MARK),
    "behind a MARK that POP takes away": forge.stream(forge.MARK, forge.POP, OS, SYSTEM),
    "with opcodes between them": forge.stream(OS, forge.INT(1), forge.POP, SYSTEM, forge.EMPTY_DICT, forge.POP),
    "doubled by DUP and popped": forge.stream(OS, forge.DUP, forge.POP, SYSTEM, forge.DUP, forge.POP),
    "as quoted strings": forge.stream(forge.LINE("STRING", b"'os'"), forge.LINE("STRING", b"'system'")),
    "as quoted strings with escapes": forge.stream(forge.LINE("STRING", b"'\\x6fs'"), forge.LINE("STRING", b'"sys\\164em"')),
    "as counted strings of Python 2": forge.stream(forge.STRING2(b"os"), forge.RAW("BINSTRING", b"\6\0\0\0system")),
    "as UNICODE with escapes": forge.stream(forge.LINE("UNICODE", b"\\u006fs"), forge.LINE("UNICODE", b"sys\\U00000074em")),
    "as BINUNICODE": forge.stream(forge.RAW("BINUNICODE", b"\2\0\0\0os"), forge.RAW("BINUNICODE", b"\6\0\0\0system")),
    "as BINUNICODE8": forge.stream(
        forge.RAW("BINUNICODE8", b"\2" + bytes(7) + b"os"), forge.RAW("BINUNICODE8", b"\6" + bytes(7) + b"system")
    ),
}


@pytest.mark.parametrize("operands", OPERANDS.values(), ids=OPERANDS)
def test_the_name_is_found_however_its_texts_get_onto_the_stack(operands: bytes) -> None:
    """Published one by one, as scanners learnt one form after the other.

    picklescan#14 and #22 (memo: https://github.com/mmaitre314/picklescan/issues/22), GHSA-9gvj-pp9x-gcfr (STRING operands:
    https://github.com/advisories/GHSA-9gvj-pp9x-gcfr).
    """
    report = refused(forge.stream(forge.PROTO(4), operands, CALL), "SL101", subject="os.system", says="os.system('true')")
    assert "os.system" in report.globals


@pytest.mark.parametrize(
    "operands",
    [
        pytest.param(forge.stream(forge.INT(42), forge.MEMOIZE, forge.POP, forge.GET(0), OS), id="a number from the memo"),
        pytest.param(forge.stream(OS, forge.NONE), id="None"),
        pytest.param(forge.stream(OS, forge.BYTES(b"system")), id="bytes"),
        pytest.param(forge.stream(OS, forge.EMPTY_LIST), id="a list"),
        pytest.param(forge.stream(forge.GLOBAL("os", "getcwd"), forge.EMPTY_TUPLE, forge.REDUCE, SYSTEM), id="the result of a call"),
    ],
)
def test_a_name_that_is_no_text_does_not_stop_the_scan(operands: bytes) -> None:
    """A type that a scanner did not expect makes it give up after the payload has run.

    https://github.com/mmaitre314/picklescan/issues/22
    """
    payload = forge.stream(forge.call("os", "system", TRUE), forge.POP)
    report = refused(forge.stream(forge.PROTO(4), payload, operands, forge.STACK_GLOBAL, forge.INT(0), forge.STOP), "SL101", "SL107")
    assert any(found.subject == "os.system" for found in report.findings)


@pytest.mark.parametrize("index", [3, 200])
def test_a_memo_entry_that_was_never_written_does_not_hide_what_ran_before(index: int) -> None:
    """A scanner's KeyError comes after the payload.

    https://github.com/mmaitre314/picklescan/pull/46
    """
    data = forge.stream(
        forge.PROTO(4),
        forge.call("os", "system", TRUE),
        forge.POP,
        OS,
        forge.MEMOIZE,
        forge.GET(index),
        forge.GET(0),
        forge.STACK_GLOBAL,
        forge.STOP,
    )
    refused(data, "SL101", "SL129", subject="os.system")


@pytest.mark.parametrize("text", [b"+0", b"-0", b"00", b" 0", b"0 ", b"0x0", b"0L", b"1e0", b""])
def test_a_memo_index_in_an_odd_form_ends_the_stream(text: bytes) -> None:
    """Readers disagree on which entry "+0" or "00" is: one of them sees another name."""
    data = forge.stream(OS, forge.LINE("PUT", b"0"), forge.POP, SYSTEM, forge.POP, forge.LINE("GET", text), SYSTEM, CALL)
    assert scan(forge.stream(forge.PROTO(4), data)).decision.outcome != "allowed"


# A name as the stream spells it, what it is called in the finding, and which rule says that it deceives (None: it does not).
SPELLINGS = [
    ("pathlib", "os.system", "SL108"),  # GHSA-5j3x-jp52-966f https://github.com/advisories/GHSA-5j3x-jp52-966f
    ("collections", "_sys.modules", "SL108"),
    ("torch", "os.system", "SL108"),
    ("numpy", "f2py.crackfortran.myeval", "SL108"),
    ("builtins", "eval.__call__", "SL108"),
    ("builtins", "str.__class__.__base__", "SL108"),
    ("os", "system\r", "SL108"),
    ("os ", "system", "SL108"),
    ("os", "system\0", "SL108"),
    ("ｏｓ", "system", "SL108"),
    ("оs", "system", "SL108"),
    ("os", "ſystem", "SL108"),
    ("os.path", "os.system", "SL108"),
    ("__builtin__", "execfile", None),  # names of Python 2, as fix_imports maps them
    ("commands", "getoutput", None),
    ("cPickle", "loads", None),
    ("copy_reg", "add_extension", None),
    ("nt", "system", None),
    ("posix", "popen", None),
]


@pytest.mark.parametrize(("module", "attribute", "rule"), SPELLINGS)
def test_a_name_spelt_otherwise_is_known_for_what_it_reaches(module: str, attribute: str, rule: str | None) -> None:
    """CVE-2025-10157: a submodule, an alias or a dotted walk is not on the list that its module is on.

    https://nvd.nist.gov/vuln/detail/CVE-2025-10157 (GHSA-f7qq-56ww-84cr)
    """
    data = forge.stream(forge.PROTO(4), forge.TEXT(module), forge.TEXT(attribute), CALL)
    refused(data, *([rule] if rule else ["SL101"]))


@pytest.mark.parametrize(("module", "attribute"), [("__builtin__", "eval"), ("commands", "getoutput"), ("os", "system")])
def test_python_2_names_in_line_operands_are_mapped(module: str, attribute: str) -> None:
    """Protocols 0 to 2 are read with `fix_imports`: what is refused is what Python 3 would import."""
    data = forge.stream(forge.call(module, attribute, TRUE), forge.STOP)
    report = refused(data, "SL101")
    assert not {"__builtin__.eval", "commands.getoutput"} & set(report.globals)


def test_a_carriage_return_belongs_to_the_name() -> None:
    """A reader that splits lines at CR LF sees another name than the unpickler, which splits at LF."""
    refused(forge.stream(b"cos\r\nsystem\r\n", TRUE, forge.TUPLE1, forge.REDUCE, forge.STOP), "SL108")


def test_the_findings_point_into_a_checkpoint_by_member_and_offset() -> None:
    """A scanner that says only that "something" is wrong is not believed."""
    stream = forge.stream(forge.PROTO(2), OS, forge.PUT(0), forge.POP, forge.GET(0), SYSTEM, CALL)
    report = refused(checkpoint(stream), "SL101", subject="os.system")
    found = next(item for item in report.findings if item.rule == "SL101")
    assert (found.level, found.member, found.offset) == (Level.ERROR, "archive/data.pkl", stream.index(forge.REDUCE, 20))

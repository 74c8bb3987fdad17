"""Calls by other opcodes than REDUCE, and objects that are changed after they were made."""

from __future__ import annotations

import pytest

from safeload.findings import Level
from tests import forge
from tests.forge_attacks import checkpoint, refused

TRUE = forge.TEXT("true")
SYSTEM = forge.GLOBAL("os", "system")

# Each calls os.system("true"), or would, by another opcode.
CALLS = {
    "REDUCE": forge.stream(SYSTEM, TRUE, forge.TUPLE1, forge.REDUCE),
    "INST": forge.stream(forge.MARK, TRUE, forge.INST("os", "system")),
    "OBJ": forge.stream(forge.MARK, SYSTEM, TRUE, forge.OBJ),
    "NEWOBJ": forge.stream(SYSTEM, TRUE, forge.TUPLE1, forge.NEWOBJ),
    "NEWOBJ_EX": forge.stream(SYSTEM, TRUE, forge.TUPLE1, forge.EMPTY_DICT, forge.NEWOBJ_EX),
    "REDUCE, then BUILD": forge.stream(SYSTEM, TRUE, forge.TUPLE1, forge.REDUCE, forge.EMPTY_DICT, forge.BUILD),
    "OBJ, then POP": forge.stream(forge.MARK, SYSTEM, TRUE, forge.OBJ, forge.POP, forge.NONE),
    "REDUCE, then POP": forge.stream(SYSTEM, TRUE, forge.TUPLE1, forge.REDUCE, forge.POP, forge.NONE),
    "REDUCE inside POP_MARK": forge.stream(forge.NONE, forge.MARK, SYSTEM, TRUE, forge.TUPLE1, forge.REDUCE, forge.POP_MARK),
    "as a key": forge.stream(forge.EMPTY_DICT, SYSTEM, TRUE, forge.TUPLE1, forge.REDUCE, forge.NONE, forge.SETITEM),
    "as a persistent id": forge.stream(SYSTEM, TRUE, forge.TUPLE1, forge.REDUCE, forge.BINPERSID),
    "arguments in a list": forge.stream(SYSTEM, forge.EMPTY_LIST, TRUE, forge.APPEND, forge.REDUCE),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_is_found_whatever_opcode_makes_it(call: bytes) -> None:
    """INST: picklescan#13. OBJ and POP: GHSA-mxhj-88fx-4pcv. BUILD behind REDUCE: GHSA-mhc9-48gj-9gp3.

    https://github.com/mmaitre314/picklescan/issues/13 https://github.com/advisories/GHSA-mxhj-88fx-4pcv
    https://github.com/advisories/GHSA-mhc9-48gj-9gp3
    """
    refused(forge.stream(forge.PROTO(2), call, forge.STOP), "SL101", subject="os.system", says="calls os.system(")
    refused(checkpoint(forge.stream(forge.PROTO(2), call, forge.STOP)), "SL101", subject="os.system")


# Changes to something that is no plain container, and the rule that names them.
CHANGES = {
    "BUILD on a function": (forge.stream(SYSTEM, forge.EMPTY_DICT, forge.BUILD), "SL101", Level.ERROR),
    "BUILD on a modelled class": (forge.stream(forge.GLOBAL("torch", "Size"), forge.EMPTY_DICT, forge.BUILD), "SL105", Level.WARNING),
    "BUILD with slots": (
        forge.stream(forge.GLOBAL("torch", "Size"), forge.NONE, forge.EMPTY_DICT, forge.TUPLE2, forge.BUILD),
        "SL105",
        Level.WARNING,
    ),
    "BUILD on a dict": (forge.stream(forge.EMPTY_DICT, forge.EMPTY_DICT, forge.BUILD), "SL105", Level.WARNING),
    "APPEND on a function": (forge.stream(SYSTEM, TRUE, forge.APPEND), "SL102", Level.ERROR),
    "APPENDS on a dict": (forge.stream(forge.EMPTY_DICT, forge.MARK, TRUE, forge.APPENDS), "SL105", Level.WARNING),
    "APPEND on a tensor class": (forge.stream(forge.GLOBAL("torch", "FloatTensor"), TRUE, forge.APPEND), "SL105", Level.WARNING),
    "ADDITEMS on a list": (forge.stream(forge.EMPTY_LIST, forge.MARK, TRUE, forge.ADDITEMS), "SL105", Level.WARNING),
    "SETITEM on a list": (forge.stream(forge.EMPTY_LIST, forge.INT(0), TRUE, forge.SETITEM), "SL105", Level.WARNING),
    "SETITEMS on a module's dictionary": (
        forge.stream(forge.GLOBAL("os", "environ"), forge.MARK, TRUE, TRUE, forge.SETITEMS),
        "SL102",
        Level.ERROR,
    ),
    "SETITEM into sys.modules": (forge.stream(forge.GLOBAL("sys", "modules"), TRUE, TRUE, forge.SETITEM), "SL102", Level.ERROR),
    "NEWOBJ_EX of a modelled class": (
        forge.stream(forge.GLOBAL("collections", "OrderedDict"), forge.EMPTY_TUPLE, forge.EMPTY_DICT, forge.NEWOBJ_EX),
        "SL104",
        Level.WARNING,
    ),
    "calling a text": (forge.stream(TRUE, forge.EMPTY_TUPLE, forge.REDUCE), "SL110", Level.WARNING),
    "a persistent id in a plain pickle": (forge.stream(TRUE, forge.BINPERSID), "SL109", Level.WARNING),
    "a persistent id as text": (forge.LINE("PERSID", b"cos"), "SL109", Level.WARNING),
}


@pytest.mark.parametrize(("change", "rule", "level"), CHANGES.values(), ids=CHANGES)
def test_only_plain_containers_are_filled_and_only_modelled_objects_take_state(change: bytes, rule: str, level: Level) -> None:
    """The unpickler calls `append`, `extend`, `__setitem__`, `__setstate__` of whatever is there; CVE-2026-24747 did so with tensors.

    https://nvd.nist.gov/vuln/detail/CVE-2026-24747
    """
    refused(forge.stream(forge.PROTO(4), change, forge.STOP), rule, level=level)


@pytest.mark.parametrize(
    "extension", [forge.RAW("EXT1", b"\x05"), forge.RAW("EXT2", b"\x05\0"), forge.RAW("EXT4", b"\x05\0\0\0")], ids=["EXT1", "EXT2", "EXT4"]
)
def test_the_extension_registry_is_never_asked(extension: bytes) -> None:
    """What number 5 means is decided by the process that loads, or by an earlier `copyreg.add_extension` in the same stream."""
    register = forge.call("copyreg", "add_extension", forge.TEXT("os"), forge.TEXT("system"), forge.INT(5))
    call = forge.stream(extension, TRUE, forge.TUPLE1, forge.REDUCE, forge.STOP)
    refused(forge.stream(forge.PROTO(2), call), "SL106")
    refused(forge.stream(forge.PROTO(2), register, forge.POP, call), "SL106", "SL101", subject="copyreg.add_extension")


def test_a_call_deep_inside_arguments_is_written_out() -> None:
    """The finding shows what runs, not only the outermost name."""
    inner = forge.call("os", "getenv", forge.TEXT("HOME"))
    data = forge.stream(forge.PROTO(2), forge.GLOBAL("subprocess", "call"), inner, forge.TUPLE1, forge.REDUCE, forge.STOP)
    refused(data, "SL101", subject="subprocess.call", says="subprocess.call(os.getenv('HOME'))")


def test_hostile_text_in_a_call_is_escaped_before_it_is_shown() -> None:
    """A terminal would obey it; a log would show a line that nobody wrote."""
    data = forge.stream(forge.PROTO(2), forge.call("os", "system", forge.TEXT("\x1b[2Jok\n\u202egood")), forge.STOP)
    report = refused(data, "SL101", subject="os.system")
    assert all(found.message.isprintable() and "\u202e" not in found.message for found in report.findings)

"""Published attacks of several steps, each harmless to a list that knows the last one only; and streams that ended a scanner."""

from __future__ import annotations

import pytest

from safeload.findings import Level, Outcome
from tests import forge
from tests.forge_attacks import HOSTILE, PAYLOAD, PLAIN, checkpoint, refused, scan
from tests.forge_script import pt2

_DICT = forge.RAW("DICT", b"")


def _called(function: bytes, *arguments: bytes) -> bytes:
    """A call of what other opcodes left on the stack."""
    return forge.stream(function, forge.MARK, *arguments, forge.TUPLE, forge.REDUCE)


def _file(*parts: bytes, protocol: int = 4) -> bytes:
    return forge.stream(forge.PROTO(protocol), *parts, forge.STOP)


def test_names_kept_as_attributes_of_an_allowed_function() -> None:
    """modelscan#85: BUILD sets texts on `numpy.prod`, dotted names fetch them, and STACK_GLOBAL takes what it gets.

    https://github.com/protectai/modelscan/issues/85
    """
    kept = [
        forge.stream(forge.NONE, forge.MARK, forge.TEXT(name), forge.TEXT(text), _DICT, forge.TUPLE2, forge.BUILD)
        for name, text in (("a", "os"), ("b", "system"))
    ]
    fetched = forge.stream(
        forge.GLOBAL("numpy", "prod.a"),
        forge.LINE("PUT", b"0"),
        forge.GLOBAL("numpy", "prod.b"),
        forge.LINE("PUT", b"1"),
        forge.POP,
        forge.POP,
    )
    name = forge.stream(forge.LINE("GET", b"0"), forge.LINE("GET", b"1"), forge.STACK_GLOBAL)
    report = refused(_file(forge.GLOBAL("numpy", "prod"), *kept, forge.POP, fetched, _called(name, forge.TEXT("true"))), "SL107", "SL108")
    assert {"numpy.prod.a", "numpy.prod.b"} <= set(report.unmodelled)


def test_a_memo_entry_written_behind_a_pop() -> None:
    """What MEMOIZE keeps is the top of the stack, not the operand of the opcode before it."""
    kept = [forge.stream(forge.TEXT(text), forge.TEXT("decoy"), forge.POP, forge.MEMOIZE, forge.POP) for text in ("os", "system")]
    name = forge.stream(forge.GET(0), forge.GET(1), forge.STACK_GLOBAL)
    refused(_file(*kept, _called(name, forge.TEXT("true"))), "SL101", subject="os.system")


def test_a_builtin_taken_out_of_the_dict_of_its_module() -> None:
    """`operator.itemgetter("exec")(builtins.__dict__)`: neither name runs code, and together they are exec."""
    held = forge.stream(forge.TEXT("builtins"), forge.TEXT("__dict__"), forge.STACK_GLOBAL)
    taken = _called(forge.call("operator", "itemgetter", forge.TEXT("exec")), held)
    report = refused(_file(_called(taken, forge.TEXT("1+1"))), "SL102", "SL108", subject="builtins.__dict__")
    assert "operator.itemgetter" in report.unmodelled


def test_a_function_fetched_without_its_descriptor() -> None:
    """`inspect.getattr_static(importlib.import_module("os"), "system")`: the name of the function is only an argument."""
    module = forge.call("importlib", "import_module", forge.TEXT("os"))
    fetched = _called(forge.GLOBAL("inspect", "getattr_static"), module, forge.TEXT("system"))
    says = "inspect.getattr_static(importlib.import_module('os'), 'system')"
    refused(_file(_called(fetched, forge.TEXT("true"))), "SL101", subject="importlib.import_module", says=says)


def test_the_c_librarys_own_system() -> None:
    """`operator.call(operator.methodcaller("system", b"true"), ctypes.CDLL(None))`: no function of Python's is named."""
    caller = forge.call("operator", "methodcaller", forge.TEXT("system"), forge.BYTES(b"true"))
    data = _file(_called(forge.GLOBAL("operator", "call"), caller, forge.call("ctypes", "CDLL", forge.NONE)))
    refused(data, "SL101", subject="ctypes.CDLL", says="operator.call(operator.methodcaller('system', b'true'), ctypes.CDLL(None))")


CALLBACKS = {
    "the factory of a defaultdict": forge.call("collections", "defaultdict", forge.GLOBAL("builtins", "breakpoint")),
    "map under list": forge.call("builtins", "list", forge.call("builtins", "map", forge.GLOBAL("builtins", "eval"), forge.EMPTY_LIST)),
    "a regular expression's replacement": forge.call("re", "sub", forge.TEXT("1"), forge.GLOBAL("builtins", "eval"), forge.TEXT("1")),
    "a weak reference's callback": forge.call("weakref", "ref", forge.GLOBAL("builtins", "set"), forge.GLOBAL("builtins", "exec")),
    "a partial that is called": _called(forge.call("functools", "partial", forge.GLOBAL("builtins", "exec"), forge.TEXT("1+1"))),
    "the callbacks of a future": forge.stream(
        forge.call("concurrent.futures._base", "Future"), forge.EMPTY_DICT, forge.TEXT("_done_callbacks"), forge.EMPTY_LIST,
        forge.GLOBAL("builtins", "breakpoint"), forge.APPEND, forge.SETITEM, forge.BUILD,
    ),
}  # fmt: skip


@pytest.mark.parametrize("data", CALLBACKS.values(), ids=CALLBACKS)
def test_a_callback_is_called_by_what_nobody_lists(data: bytes) -> None:
    """modelaudit#1061 has the class: an ordinary function calls what it is handed. What is handed over has to be named somewhere.

    https://github.com/promptfoo/modelaudit/pull/1061
    """
    report = refused(_file(data), "SL102")
    named = {found.subject for found in report.findings if found.level is Level.ERROR}
    assert named & {"builtins.breakpoint", "builtins.eval", "builtins.exec"}


def test_a_call_made_by_obj_with_a_quoted_string() -> None:
    """fickling#108: `pty.spawn` called by OBJ, its result used, in a stream without PROTO.

    https://github.com/trailofbits/fickling/pull/108
    """
    made = forge.stream(forge.MARK, forge.GLOBAL("pty", "spawn"), forge.LINE("STRING", b'"id"'), forge.RAW("OBJ", b""), forge.STOP)
    refused(made, "SL101", subject="pty.spawn", says="pty.spawn('id')")


@pytest.mark.parametrize("at", ["front", "middle", "end"])
def test_an_injected_call_whose_result_is_popped(at: str) -> None:
    """fickling#19: a POP behind the injected call leaves the stack as it was, wherever that is.

    https://github.com/trailofbits/fickling/issues/19
    """
    clean = forge.stream(PAYLOAD, forge.POP)
    parts = {
        "front": (clean, forge.EMPTY_LIST, forge.INT(1), forge.APPEND),
        "middle": (forge.EMPTY_LIST, clean, forge.INT(1), clean, forge.APPEND),
        "end": (forge.EMPTY_LIST, forge.INT(1), forge.APPEND, clean),
    }
    refused(checkpoint(_file(*parts[at], protocol=2)), "SL101", subject="os.system")


def test_an_object_that_holds_itself_ends_no_scan() -> None:
    """fickling#196: a list in itself sent a visitor round for ever. It is data, and what stands beside it is still found.

    https://github.com/trailofbits/fickling/issues/196
    """
    ring = forge.stream(forge.EMPTY_LIST, forge.MEMOIZE, forge.GET(0), forge.APPEND)
    assert scan(_file(ring)).decision.outcome is Outcome.ALLOWED
    inside = forge.stream(forge.EMPTY_LIST, forge.MEMOIZE, forge.GET(0), forge.APPEND, PAYLOAD, forge.APPEND)
    refused(_file(inside), "SL101", subject="os.system")
    called = _called(forge.GLOBAL("os", "system"), forge.stream(forge.GET(0), forge.GET(0), forge.APPEND))
    refused(_file(forge.EMPTY_LIST, forge.MEMOIZE, called), "SL101", subject="os.system")


def test_a_stream_that_takes_a_buffer_from_outside() -> None:
    """modelaudit#1450: NEXT_BUFFER breaks a scan; what ran before it has run.

    https://github.com/promptfoo/modelaudit/pull/1450
    """
    buffer = forge.RAW("NEXT_BUFFER", b"")
    refused(_file(PAYLOAD, forge.POP, buffer, protocol=5), "SL101", subject="os.system")
    assert scan(_file(buffer, protocol=5)).decision.outcome is Outcome.ERROR


def test_python_2_names_where_nothing_maps_them() -> None:
    """From protocol 3 on `__builtin__` is a module of its own, if somebody has one; what it is meant to be is no secret."""
    for name in ("getattr", "eval", "file"):
        data = _file(forge.call("__builtin__", name, forge.TEXT("x"), forge.TEXT("y")))
        refused(data, "SL101", subject=f"__builtin__.{name}")


@pytest.mark.parametrize("member", ["data/weights/w.pt", "data/sample_inputs/model.pt", "data/constants/c.pt", "extra/x"])
def test_the_streams_inside_an_exported_program(member: str) -> None:
    """CVE-2026-4538, CVE-2024-31580, CVE-2024-42480: `torch.export.load` unpickles members that no list of globals stands before.

    https://nvd.nist.gov/vuln/detail/CVE-2026-4538
    """
    for inner in (HOSTILE, checkpoint(HOSTILE)):
        report = refused(pt2(None, {member: inner}), "SL101", subject="os.system")
        assert any(found.member and member in found.member for found in report.findings)


@pytest.mark.parametrize(
    "first", [PLAIN, b"N.", b"I1\n.", b"K\1.\n\n", b"N.K\1.U\1a."], ids=["a dict", "None", "a number", "with a gap", "three"]
)
def test_a_benign_stream_first_and_an_operand_that_breaks_a_reader(first: bytes) -> None:
    """Globals seen before an operand that a reader cannot parse were once reported as all there is."""
    ordinary = forge.stream(forge.GLOBAL("collections", "OrderedDict"), forge.EMPTY_TUPLE, forge.REDUCE, forge.POP)
    odd = forge.LINE("INT", b"0x10")
    refused(first + _file(ordinary, odd, forge.POP, PAYLOAD, protocol=2), "SL101", subject="os.system")

"""Every gadget that was published as missing from some scanner's list: refused, and called what it is.

A denylist cannot end, and so refusing does not rest on one: a name that nobody has heard of is refused too, as a warning.
"""

from __future__ import annotations

import pytest

from safeload.findings import Level
from tests import forge
from tests.attacks.gadgets import EVERY, ONLY_CALLED, Gadget
from tests.forge_attacks import checkpoint, loads_nothing, refused, scan

_IDS = [f"{advisory}-{module}.{attribute}" for advisory, module, attribute, _ in EVERY]


def _stream(gadget: Gadget) -> bytes:
    _, module, attribute, arguments = gadget
    name = forge.stream(forge.TEXT(module), forge.TEXT(attribute), forge.STACK_GLOBAL)
    return forge.stream(forge.PROTO(4), name, forge.MARK, *arguments, forge.TUPLE, forge.REDUCE, forge.STOP)


@pytest.mark.parametrize("gadget", EVERY, ids=_IDS)
def test_a_published_gadget_is_refused_and_shown_as_the_call_it_is(gadget: Gadget) -> None:
    """Each id is told at https://github.com/advisories/<GHSA id> or https://nvd.nist.gov/vuln/detail/<CVE id>."""
    _, module, attribute, _ = gadget
    report = scan(_stream(gadget))
    found = next(item for item in report.findings if item.rule == "SL101")
    assert report.decision.outcome == "refused"
    assert (found.level, found.subject) == (Level.ERROR, f"{module}.{attribute}")
    assert found.message.startswith(f"calls {module}.{attribute}(")
    assert report.decision.refused_globals == (f"{module}.{attribute}",)


@pytest.mark.parametrize("gadget", EVERY[::7], ids=_IDS[::7])
def test_a_published_gadget_in_a_checkpoint_is_not_loaded(gadget: Gadget) -> None:
    """The same streams as data.pkl: the load that follows a scan must say the same."""
    refused(checkpoint(_stream(gadget)), "SL101", subject=f"{gadget[1]}.{gadget[2]}")


@pytest.mark.parametrize("gadget", EVERY, ids=_IDS)
def test_naming_a_gadget_is_enough(gadget: Gadget) -> None:
    """Importing runs code, and what is named may be called through the memo by a later stream."""
    _, module, attribute, _ = gadget
    data = forge.stream(forge.PROTO(4), forge.TEXT(module), forge.TEXT(attribute), forge.STACK_GLOBAL, forge.STOP)
    report = scan(data)
    rule = "SL103" if f"{module}.{attribute}" in ONLY_CALLED else "SL102"
    assert report.decision.outcome == "refused"
    assert [item.subject for item in report.findings if item.rule == rule] == [f"{module}.{attribute}"]


def test_a_name_that_nobody_has_heard_of_is_refused_as_not_modelled() -> None:
    """The next gadget is on no list: it is refused for not being modelled, and not called dangerous for that."""
    data = forge.stream(forge.PROTO(2), forge.call("some.package", "Thing", forge.TEXT("x")), forge.STOP)
    refused(data, "SL103", level=Level.WARNING)


def test_an_allowlist_that_another_check_switches_off() -> None:
    """GHSA-cffv-grgg-g429 (CVE-2026-14535): one pass marked imports as told, and the pass with the allowlist skipped them.

    Here there is one table, and what is not in it is refused, whatever was said about it before. https://github.com/advisories/GHSA-cffv-grgg-g429
    """
    for module, attribute in (("some.package", "loader"), ("torch", "anything"), ("numpy", "another"), ("sklearn.utils", "helper")):
        data = forge.stream(forge.PROTO(4), forge.call(module, attribute, forge.TEXT("x")), forge.STOP)
        report = scan(data)
        assert report.decision.outcome == "refused"
        assert report.unmodelled == (f"{module}.{attribute}",)


def test_an_eval_that_is_hidden_under_other_callables() -> None:
    """GHSA-9m3x-qqw2-h32h (CVE-2026-53874): eval fetched from one callable by another.

    https://github.com/advisories/GHSA-9m3x-qqw2-h32h
    """
    fetched = forge.stream(
        forge.GLOBAL("builtins", "getattr"), forge.GLOBAL("builtins", "eval"), forge.TEXT("__call__"), forge.TUPLE2, forge.REDUCE
    )
    data = forge.stream(forge.PROTO(4), fetched, forge.TEXT("1+1"), forge.TUPLE1, forge.REDUCE, forge.STOP)
    refused(data, "SL102", subject="builtins.eval", says="builtins.getattr(builtins.eval, '__call__')")


def test_a_file_that_is_read_and_sent() -> None:
    """GHSA-9726-w42j-3qjr (CVE-2026-53872): `io.FileIO` as the body of a `urllib.request.urlopen`.

    https://github.com/advisories/GHSA-9726-w42j-3qjr
    """
    opened = forge.call("io", "FileIO", forge.TEXT("/etc/hosts"), forge.TEXT("r"))
    name = forge.GLOBAL("urllib.request", "urlopen")
    data = forge.stream(forge.PROTO(4), name, forge.TEXT("http://127.0.0.1/"), opened, forge.TUPLE2, forge.REDUCE, forge.STOP)
    report = refused(data, "SL101", subject="io.FileIO", says="urllib.request.urlopen('http://127.0.0.1/', io.FileIO(")
    assert any(found.subject == "urllib.request.urlopen" and found.level is Level.ERROR for found in report.findings)


def test_two_gadgets_that_are_harmless_alone_are_both_listed() -> None:
    """GHSA-84r2-jw7c-4r5q: `pydoc.locate` finds the module, `operator.methodcaller` calls its function.

    https://github.com/advisories/GHSA-84r2-jw7c-4r5q
    """
    caller = forge.call("operator", "methodcaller", forge.TEXT("system"), forge.TEXT("true"))
    data = forge.stream(forge.PROTO(4), caller, forge.call("pydoc", "locate", forge.TEXT("os")), forge.TUPLE1, forge.REDUCE, forge.STOP)
    report = refused(data, "SL101", subject="operator.methodcaller")
    assert report.unmodelled == ("operator.methodcaller", "pydoc.locate")


def test_a_method_called_on_a_module_that_another_call_imported() -> None:
    """GHSA-x843-g5mx-g377: `operator.methodcaller("system", …)(__import__("os"))`, the module kept in the memo.

    https://github.com/advisories/GHSA-x843-g5mx-g377
    """
    module = forge.stream(forge.call("builtins", "__import__", forge.TEXT("os")), forge.PUT(0), forge.POP)
    caller = forge.call("operator", "methodcaller", forge.TEXT("system"), forge.TEXT("true"))
    data = forge.stream(module, caller, forge.MARK, forge.GET(0), forge.TUPLE, forge.REDUCE, forge.STOP)
    report = refused(data, "SL101", subject="builtins.__import__", says="builtins.__import__('os')")
    assert any(item.subject == "operator.methodcaller" and item.level is Level.ERROR for item in report.findings)
    assert report.unmodelled == ("builtins.__import__", "operator.methodcaller")


def test_marshalled_code_made_into_a_function_and_called() -> None:
    """GHSA-565g-hwwr-4pp3: `marshal.loads` and `types.FunctionType`.

    https://github.com/advisories/GHSA-565g-hwwr-4pp3
    """
    code = forge.call("marshal", "loads", forge.BYTES(b"N"))
    function = forge.stream(forge.GLOBAL("types", "FunctionType"), code, forge.EMPTY_DICT, forge.TUPLE2, forge.REDUCE)
    data = forge.stream(forge.PROTO(4), function, forge.EMPTY_TUPLE, forge.REDUCE, forge.STOP)
    refused(data, "SL101", subject="marshal.loads", says="types.FunctionType(marshal.loads(")


def test_a_module_found_by_import_and_walked_by_getattr() -> None:
    """GHSA-h4rm-mm56-xf63 (CVE-2026-22612): `getattr(__import__("os"), "system")("true")`.

    https://github.com/advisories/GHSA-h4rm-mm56-xf63
    """
    module = forge.call("builtins", "__import__", forge.TEXT("os"))
    function = forge.stream(forge.GLOBAL("builtins", "getattr"), module, forge.TEXT("system"), forge.TUPLE2, forge.REDUCE)
    data = forge.stream(forge.PROTO(4), function, forge.TEXT("true"), forge.TUPLE1, forge.REDUCE, forge.STOP)
    refused(data, "SL101", subject="builtins.getattr", says="builtins.getattr(builtins.__import__('os'), 'system')")


def test_a_name_that_a_call_computes_has_no_name() -> None:
    """modelscan#331: "os" joined from letters by `getattr(str, "join")`; STACK_GLOBAL takes what the calls give.

    https://github.com/protectai/modelscan/issues/331
    """
    letters = forge.stream(forge.EMPTY_LIST, forge.MARK, forge.TEXT("o"), forge.TEXT("s"), forge.APPENDS)
    join = forge.call("builtins", "getattr", forge.TEXT(""), forge.TEXT("join"))
    module = forge.stream(join, letters, forge.TUPLE1, forge.REDUCE)
    data = forge.stream(
        forge.PROTO(4), module, forge.TEXT("system"), forge.STACK_GLOBAL, forge.TEXT("true"), forge.TUPLE1, forge.REDUCE, forge.STOP
    )
    refused(data, "SL107")


def test_builtins_through_an_allowed_package() -> None:
    """modelscan#330: `numpy.__builtins__` holds eval, and BUILD puts it where a function looks for names.

    https://github.com/protectai/modelscan/issues/330
    """
    data = forge.stream(
        forge.PROTO(4), forge.GLOBAL("numpy", "size"), forge.PUT(0), forge.EMPTY_DICT, forge.EMPTY_DICT, forge.TEXT("shape"),
        forge.GLOBAL("numpy", "__builtins__"), forge.SETITEM, forge.TUPLE2, forge.BUILD, forge.GET(0), forge.TEXT("eval"), forge.TUPLE1,
        forge.REDUCE, forge.STOP,
    )  # fmt: skip
    refused(data, "SL102", subject="numpy.__builtins__")


def test_a_grant_of_a_gadget_is_no_grant() -> None:
    """pytorch#189445: a user's list of safe globals is honoured even for eval; here no policy can grant it.

    https://github.com/pytorch/pytorch/issues/189445
    """
    data = forge.stream(forge.PROTO(2), forge.call("builtins", "eval", forge.TEXT("1+1")), forge.STOP)
    report = scan(data)
    assert report.decision.outcome == "refused"
    loads_nothing(data)

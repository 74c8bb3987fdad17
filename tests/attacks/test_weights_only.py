"""What a hostile checkpoint can still do to a loader that allows only weights: sizes, strides, indices, attributes, codecs.

None of these names anything that is not on torch's own list. Sources: CVE-2026-24747, CVE-2025-62164, pytorch#184652, pytorch#189445
and the measurements behind docs/threat-model.md.
"""

from __future__ import annotations

import struct

import pytest

from safeload.findings import Outcome
from tests import forge
from tests.forge_attacks import checkpoint, legacy, refused, scan

BYTES = struct.pack("<4f", 1, 2, 3, 4)
ODICT = forge.stream(forge.GLOBAL("collections", "OrderedDict"), forge.EMPTY_TUPLE, forge.REDUCE)


def _tuple(*items: bytes) -> bytes:
    return forge.stream(forge.MARK, *items, forge.TUPLE)


def _ints(*numbers: int) -> bytes:
    return _tuple(*(forge.INT(number) for number in numbers))


def _storage(numel: int = 4, key: str = "0", kind: str = "FloatStorage", *, size: bytes | None = None) -> bytes:
    parts = (forge.TEXT("storage"), forge.GLOBAL("torch", kind), forge.TEXT(key), forge.TEXT("cpu"), size or forge.INT(numel))
    return forge.stream(_tuple(*parts), forge.BINPERSID)


def _call(name: str, *arguments: bytes, module: str = "torch._utils") -> bytes:
    return forge.stream(forge.GLOBAL(module, name), _tuple(*arguments), forge.REDUCE)


def _tensor(size: bytes, stride: bytes, *, offset: int = 0, storage: bytes | None = None, hooks: bytes = ODICT, more: bytes = b"") -> bytes:
    return _call("_rebuild_tensor_v2", storage or _storage(), forge.INT(offset), size, stride, forge.NEWFALSE, hooks, more)


def _file(value: bytes, **members: bytes) -> bytes:
    stream = forge.stream(forge.PROTO(2), forge.EMPTY_DICT, forge.TEXT("t"), value, forge.SETITEM, forge.STOP)
    return checkpoint(stream, **{"data/0": BYTES, **members})


GOOD = _tensor(_ints(4), _ints(1))
INDEX = _call("_rebuild_tensor_v2", _storage(2, "1", "LongStorage"), forge.INT(0), _ints(1, 2), _ints(2, 1), forge.NEWFALSE, ODICT)
_COO = _call("_get_layout", forge.TEXT("torch.sparse_coo"), module="torch.serialization")


def _sparse(index: int) -> bytes:
    """A sparse tensor of 4 elements, one index of which is `index`."""
    parts = _tuple(INDEX, _tensor(_ints(2), _ints(1)), _ints(4), forge.NEWFALSE)
    return _file(_call("_rebuild_sparse_tensor", _COO, parts), **{"data/1": struct.pack("<2q", 0, index)})


def test_what_the_attacks_are_made_of_is_allowed_when_it_is_right() -> None:
    """Otherwise the tests below would prove nothing."""
    assert scan(_file(GOOD)).decision.outcome is Outcome.ALLOWED
    assert scan(_sparse(3)).decision.outcome is Outcome.ALLOWED


# What does not fit its storage, or is not what it says, and the rule that names it.
BOUNDS = {
    "a stride beyond the storage": (_file(_tensor(_ints(2), _ints(1 << 40))), "SL301"),
    "a size beyond the storage": (_file(_tensor(_ints(5), _ints(1))), "SL301"),
    "an offset beyond the storage": (_file(_tensor(_ints(1), _ints(1), offset=4)), "SL301"),
    "a negative offset": (_file(_tensor(_ints(1), _ints(1), offset=-1)), None),
    "a negative size": (_file(_tensor(_ints(-1), _ints(1))), None),
    "a negative stride": (_file(_tensor(_ints(2), _ints(-1), offset=1)), None),
    "sizes whose product overflows": (_file(_tensor(_ints(1 << 32, 1 << 32), _ints(1 << 32, 1))), None),
    "sizes whose product is zero after overflow": (_file(_tensor(_ints(1 << 33, 1 << 31, 2), _ints(0, 0, 0))), None),
    "fewer strides than sizes": (_file(_tensor(_ints(2, 2), _ints(1))), None),
    "more elements than the record": (_file(_tensor(_ints(8), _ints(1), storage=_storage(8))), "SL302"),
    "fewer elements than the record": (_file(_tensor(_ints(2), _ints(1), storage=_storage(2))), "SL302"),
    "a negative number of elements": (_file(_tensor(_ints(0), _ints(1), storage=_storage(-1))), None),
    "2**62 elements": (_file(_tensor(_ints(1), _ints(1), storage=_storage(1 << 62))), None),
    "a wider element type than the record": (_file(_tensor(_ints(4), _ints(1), storage=_storage(4, kind="DoubleStorage"))), "SL302"),
    "a storage that is not there": (_file(_tensor(_ints(4), _ints(1), storage=_storage(key="7"))), "SL304"),
    "a storage key that climbs": (_file(_tensor(_ints(4), _ints(1), storage=_storage(key="../version"))), "SL304"),
    "a number of elements that is text": (_file(_tensor(_ints(4), _ints(1), storage=_storage(size=forge.TEXT("4")))), None),
    "a sparse index beyond the size": (_sparse(4), None),
    "a negative sparse index": (_sparse(-1), None),
    "a huge sparse index": (_sparse(1 << 40), None),
    "a quantiser axis that is not there": (
        _file(
            _call(
                "_rebuild_qtensor",
                _storage(4, "0", "QInt8Storage"),
                forge.INT(0),
                _ints(4),
                _ints(1),
                _tuple(forge.GLOBAL("torch", "per_channel_affine"), GOOD, GOOD, forge.INT(3)),
                forge.NEWFALSE,
                ODICT,
            ),
            **{"data/0": bytes(4)},
        ),
        None,
    ),
    "meta sizes that are negative": (
        _file(_call("_rebuild_meta_tensor_no_storage", forge.GLOBAL("torch", "float32"), _ints(-5), _ints(1), forge.NEWFALSE)),
        None,
    ),
}


@pytest.mark.parametrize(("data", "rule"), BOUNDS.values(), ids=BOUNDS)
def test_a_tensor_that_leaves_its_storage_is_refused(data: bytes, rule: str | None) -> None:
    """CVE-2026-24747 (sizes), CVE-2025-62164 (sparse indices), pytorch#184652 (quantised axis): heap reads and writes.

    https://github.com/advisories/GHSA-63cw-57p8-fm3p https://nvd.nist.gov/vuln/detail/CVE-2026-24747 https://nvd.nist.gov/vuln/detail/CVE-2025-62164
    https://github.com/pytorch/pytorch/pull/184652
    """
    if "sparse" in next(name for name, (other, _) in BOUNDS.items() if other is data):
        _refused_by_load(data)
        return
    refused(data, *([rule] if rule else []))


def _refused_by_load(data: bytes) -> None:
    """Indices are values of a storage: a scan reads no storage, so the load finds them."""
    from tests.forge_attacks import loads_nothing

    loads_nothing(data)


# Calls of names on torch's list with arguments that no writer gives them.
CALLS = {
    "UntypedStorage(64)": _call("UntypedStorage", forge.INT(64), module="torch"),
    "UntypedStorage(2**40)": _call("UntypedStorage", forge.INT(1 << 40), module="torch.storage"),
    "FloatTensor(2**40)": _call("FloatTensor", forge.INT(1 << 40), module="torch"),
    "FloatTensor(4)": _call("FloatTensor", forge.INT(4), module="torch"),
    "FloatStorage(4)": _call("FloatStorage", forge.INT(4), module="torch"),
    "Tensor(3, 3)": _call("Tensor", forge.INT(3), forge.INT(3), module="torch"),
    "bytearray(2**33)": _call("bytearray", forge.INT(1 << 33), module="builtins"),
    "bytes(2**33)": _call("bytes", forge.INT(1 << 33), module="builtins"),
    "set of a range": _call("set", _call("range", forge.INT(1 << 40), module="builtins"), module="builtins"),
    "encode with zlib": _call("encode", forge.TEXT("x"), forge.TEXT("zlib"), module="_codecs"),
    "encode with a codec to be imported": _call("encode", forge.TEXT("x"), forge.TEXT("some.codec"), module="_codecs"),
    "encode with a computed codec": _call(
        "encode", forge.TEXT("x"), _call("encode", forge.TEXT("rot13"), forge.TEXT("latin1"), module="_codecs"), module="_codecs"
    ),
    "Counter of a number": _call("Counter", forge.INT(5), module="collections"),
    "OrderedDict of text": _call("OrderedDict", forge.TEXT("abc"), module="collections"),
    "torch.device of a long text": _call("device", forge.TEXT("x" * 4000), module="torch"),
    "a layout that does not exist": _call("_get_layout", forge.TEXT("torch.os"), module="torch.serialization"),
    "hooks in a dict": _tensor(_ints(4), _ints(1), hooks=forge.stream(forge.EMPTY_DICT, forge.INT(0), forge.TEXT("hook"), forge.SETITEM)),
    "hooks in an OrderedDict": _tensor(_ints(4), _ints(1), hooks=forge.stream(ODICT, forge.INT(0), forge.TEXT("hook"), forge.SETITEM)),
    "metadata with other bits": _tensor(
        _ints(4), _ints(1), more=forge.stream(forge.EMPTY_DICT, forge.TEXT("zero"), forge.NEWTRUE, forge.SETITEM)
    ),
    "a type that is none of torch's": _call(
        "_rebuild_from_type_v2",
        forge.GLOBAL("torch._utils", "_rebuild_tensor_v2"),
        forge.GLOBAL("os", "system"),
        _tuple(),
        forge.EMPTY_DICT,
        module="torch._tensor",
    ),
    "a rebuild function that is none": _call(
        "_rebuild_from_type_v2",
        forge.GLOBAL("os", "system"),
        forge.GLOBAL("torch", "Tensor"),
        _tuple(forge.TEXT("true")),
        forge.EMPTY_DICT,
        module="torch._tensor",
    ),
}


@pytest.mark.parametrize("value", CALLS.values(), ids=CALLS)
def test_a_name_on_the_list_is_no_call_on_the_list(value: bytes) -> None:
    """pytorch#189445 and its like: uninitialised memory with live pointers, gigabytes from a few bytes, any codec's import.

    https://github.com/pytorch/pytorch/issues/189445
    """
    report = scan(_file(value))
    assert report.decision.outcome is Outcome.REFUSED, report
    _refused_by_load(_file(value))


# State that BUILD would give.
STATES = {
    "keys shadowed on an OrderedDict": forge.stream(
        ODICT, forge.EMPTY_DICT, forge.TEXT("keys"), forge.TEXT("x"), forge.SETITEM, forge.BUILD
    ),
    "a class changed on an OrderedDict": forge.stream(
        ODICT, forge.EMPTY_DICT, forge.TEXT("__class__"), forge.GLOBAL("builtins", "list"), forge.SETITEM, forge.BUILD
    ),
    "a method replaced on a tensor": _call(
        "_rebuild_from_type_v2",
        forge.GLOBAL("torch._utils", "_rebuild_tensor_v2"),
        forge.GLOBAL("torch", "Tensor"),
        _tuple(_storage(), forge.INT(0), _ints(4), _ints(1), forge.NEWFALSE, ODICT),
        forge.stream(forge.EMPTY_DICT, forge.TEXT("numpy"), forge.TEXT("x"), forge.SETITEM),
        module="torch._tensor",
    ),
    "a class changed on a tensor": _call(
        "_rebuild_from_type_v2",
        forge.GLOBAL("torch._utils", "_rebuild_tensor_v2"),
        forge.GLOBAL("torch", "Tensor"),
        _tuple(_storage(), forge.INT(0), _ints(4), _ints(1), forge.NEWFALSE, ODICT),
        forge.stream(forge.EMPTY_DICT, forge.TEXT("__class__"), forge.GLOBAL("torch", "Size"), forge.SETITEM),
        module="torch._tensor",
    ),
    "hooks set on a tensor": _call(
        "_rebuild_from_type_v2",
        forge.GLOBAL("torch._utils", "_rebuild_tensor_v2"),
        forge.GLOBAL("torch", "Tensor"),
        _tuple(_storage(), forge.INT(0), _ints(4), _ints(1), forge.NEWFALSE, ODICT),
        forge.stream(forge.EMPTY_DICT, forge.TEXT("_backward_hooks"), forge.EMPTY_DICT, forge.SETITEM),
        module="torch._tensor",
    ),
    "a tensor's items set": forge.stream(GOOD, forge.INT(0), forge.FLOAT(9.0), forge.SETITEM),
    "a tensor's items set at once": forge.stream(GOOD, forge.MARK, forge.INT(0), forge.FLOAT(9.0), forge.SETITEMS),
    "a tensor's storage set by BUILD": forge.stream(GOOD, _tuple(_storage(), forge.INT(0), _ints(4), _ints(1 << 30)), forge.BUILD),
    "an empty tensor's storage set beyond its end": forge.stream(
        _call("FloatTensor", module="torch"), _tuple(_storage(), forge.INT(0), _ints(400), _ints(1)), forge.BUILD
    ),
    "a Size with state": forge.stream(_call("Size", _ints(1), module="torch"), forge.EMPTY_DICT, forge.BUILD),
}


@pytest.mark.parametrize("value", STATES.values(), ids=STATES)
def test_state_changes_nothing_that_was_not_modelled(value: bytes) -> None:
    """Shadowed methods and attributes run when the caller next uses the object."""
    report = scan(_file(value))
    assert report.decision.outcome is Outcome.REFUSED, report
    _refused_by_load(_file(value))


def test_the_same_bounds_hold_in_the_legacy_format() -> None:
    """There the sizes stand in front of the bytes, too, and may say something else."""
    storage = _tuple(
        forge.TEXT("storage"), forge.GLOBAL("torch", "FloatStorage"), forge.TEXT("0"), forge.TEXT("cpu"), forge.INT(4), forge.NONE
    )
    value = _tensor(_ints(4), _ints(1 << 40), storage=forge.stream(storage, forge.BINPERSID))
    stream = forge.stream(forge.PROTO(2), value, forge.STOP)
    keys = forge.stream(forge.PROTO(2), forge.EMPTY_LIST, forge.TEXT("0"), forge.APPEND, forge.STOP)
    refused(legacy(stream, keys=keys) + struct.pack("<q", 4) + BYTES, "SL301")
    good = forge.stream(forge.PROTO(2), _tensor(_ints(4), _ints(1), storage=forge.stream(storage, forge.BINPERSID)), forge.STOP)
    assert scan(legacy(good, keys=keys) + struct.pack("<q", 4) + BYTES).decision.outcome is Outcome.ALLOWED
    refused(legacy(good, keys=keys) + struct.pack("<q", 3) + BYTES, "SL302")
    refused(legacy(good, keys=keys) + struct.pack("<q", -1) + BYTES)


@pytest.mark.torch
def test_the_names_of_torchs_own_tensor_are_known() -> None:
    """A scan knows them without torch; whatever a newer torch adds is caught by the load, which asks the class."""
    import torch

    from safeload.walk.tensor_names import TENSOR_NAMES

    assert {"numpy", "data", "backward", "_backward_hooks", "register_hook", "item", "to"} <= TENSOR_NAMES
    public = {name for name in dir(torch.Tensor) if not name.startswith("_")}
    assert len(public - TENSOR_NAMES) < 40

"""The allowlist: every global that may be called, with the kinds of arguments that it may be called with.

A name alone permits nothing. `bytearray` is modelled for bytes, not for a number (a few bytes would claim gigabytes);
storage and tensor classes are never called with sizes (uninitialised memory); `_codecs.encode` knows one codec.
What an argument *holds* (sizes within a storage, a codec's text) is checked where values exist, in `walk.model`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from safeload.lean_dataclass import dataclass
from safeload.program import DTYPE_BITS
from safeload.walk import generators
from safeload.walk import kinds as k

__all__ = ["BUILD_STATE", "MODELLED", "STORAGE_DTYPES", "TENSOR_DTYPES", "Modelled", "Signature", "described", "script_global"]

Predicate = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to call a global.

    Attributes:
        kinds: A mask of accepted kinds per positional argument.
        required: How many of them must be there.
        rest: A mask for any further arguments; 0 for none.
        texts: For arguments that must be constant strings: index → predicate.
    """

    kinds: tuple[int, ...]
    required: int
    rest: int = 0
    texts: tuple[tuple[int, Predicate], ...] = ()


@dataclass(frozen=True, slots=True)
class Modelled:
    """What is known of one global.

    Attributes:
        name: "module.attribute".
        kind: What the global itself is, as a value on the stack.
        reduce: Accepted calls by REDUCE, INST and OBJ.
        newobj: Accepted calls by NEWOBJ (without the class).
        result: The kind of what a call gives; -1 for the kind of the first argument.
        checked: Whether values must be looked at before the call is known to be harmless.
    """

    name: str
    kind: int = k.GLOBAL
    reduce: tuple[Signature, ...] = ()
    newobj: tuple[Signature, ...] = ()
    result: int = k.OBJECT
    checked: bool = True


def _sig(*masks: int, required: int | None = None, rest: int = 0, texts: Mapping[int, Predicate] | None = None) -> Signature:
    return Signature(masks, len(masks) if required is None else required, rest, tuple((texts or {}).items()))


def _one_of(*words: str) -> Predicate:
    return frozenset(words).__contains__


_m = k.mask
_INT, _STR, _BYTES, _BOOL, _NONE = k.INTEGER, _m(k.STR), _m(k.BYTES), _m(k.BOOL), _m(k.NONE)
_TUPLE, _LIST, _DICT, _ODICT = _m(k.TUPLE), _m(k.LIST), _m(k.DICT), _m(k.ODICT)
_SIZE = _m(k.TUPLE, k.SIZE)
_SEQUENCE = _m(k.LIST, k.TUPLE)
_TENSOR, _STORAGE, _DTYPE = _m(k.TENSOR), _m(k.STORAGE), _m(k.DTYPE)
_HOOKS = _m(k.ODICT, k.DICT, k.NONE)
_CLASS = _m(k.GLOBAL)
_OTHER = _m(k.UNKNOWN, k.RESULT)  # a class that is not modelled: refused as such, or granted by policy
_NOTHING = _sig()
_LATIN1 = _one_of("latin1", "latin-1", "iso-8859-1")
_PLAIN_DTYPE = re.compile(r"[<>=|]?(?:[?bBhHiIlLqQefdgFDGSUMmVO]|[biufcSUVMmO][0-9]{1,6})\Z").match

MODELLED: Final[dict[str, Modelled]] = {}


def _add(name: str, **what: object) -> None:
    MODELLED[name] = Modelled(name, **what)  # type: ignore[arg-type]


def _builtins() -> None:
    items = k.PLAIN | k.mask(k.LIST, k.SET, k.FROZENSET, k.BYTES, k.STR)
    for name in ("int", "float", "str", "bool"):
        _add(f"builtins.{name}", kind=k.TYPE)
    for name, result in (("list", k.LIST), ("tuple", k.TUPLE), ("set", k.SET), ("frozenset", k.FROZENSET)):
        _add(f"builtins.{name}", kind=k.TYPE, reduce=(_NOTHING, _sig(_SEQUENCE)), result=result)
    _add("builtins.object", kind=k.TYPE)
    # Protocols 0 and 1 make every object this way. The class counts: it is refused, inert, or granted.
    # Of modelled classes it means what NEWOBJ without arguments means: the walk and the build take it for that.
    _add("copyreg._reconstructor", reduce=(_sig(_OTHER, _m(k.TYPE), k.ANY), _sig(_CLASS, _m(k.TYPE), _NONE)), result=-1)
    _add("builtins.dict", kind=k.TYPE, reduce=(_NOTHING,), result=k.DICT)
    _add("builtins.bytes", kind=k.TYPE, reduce=(_NOTHING, _sig(_BYTES), _sig(_LIST)), result=k.BYTES)
    _add(
        "builtins.bytearray",
        kind=k.TYPE,
        reduce=(_NOTHING, _sig(_BYTES), _sig(_STR, _STR, texts={1: _LATIN1})),
        result=k.BYTEARRAY,
    )
    number = k.mask(k.FLOAT, k.INT)
    _add("builtins.complex", kind=k.TYPE, reduce=(_sig(number, number),), result=k.COMPLEX, checked=False)
    _add("builtins.slice", reduce=(_sig(items, items, items),), checked=False)
    _add("builtins.range", reduce=(_sig(_INT, _INT, _INT, required=1),))
    _add("builtins.Ellipsis", kind=k.OBJECT)
    _add("builtins.NotImplemented", kind=k.OBJECT)
    _add("_codecs.encode", reduce=(_sig(_STR, _STR, texts={1: _LATIN1}),), result=k.BYTES)


def _collections() -> None:
    pairs = _sig(_m(k.LIST, k.TUPLE, k.DICT, k.ODICT))
    _add("collections.OrderedDict", reduce=(_NOTHING, pairs), newobj=(_NOTHING,), result=k.ODICT)
    _add("collections.Counter", reduce=(_NOTHING, _sig(_m(k.DICT))), newobj=(_NOTHING,), result=k.COUNTER)
    factory = _m(k.TYPE, k.NONE, k.UNKNOWN)  # one of the program's own is refused as such, inert, or granted
    _add("collections.defaultdict", reduce=(_NOTHING, _sig(factory, _m(k.DICT), required=1)), result=k.DEFAULTDICT)
    _add("collections.deque", reduce=(_NOTHING, _sig(_SEQUENCE, _INT | _NONE, required=1)), result=k.DEQUE)


def _standard_library() -> None:
    when = _m(k.BYTES, k.STR)
    zone = _m(k.OBJECT, k.NONE) | _OTHER
    _add("datetime.datetime", reduce=(_sig(when, zone, required=1),), newobj=(_sig(when, zone, required=1),))
    _add("datetime.date", reduce=(_sig(when),), newobj=(_sig(when),))
    _add("datetime.time", reduce=(_sig(when, zone, required=1),), newobj=(_sig(when, zone, required=1),))
    _add("datetime.timedelta", reduce=(_sig(_INT, _INT, _INT, required=0),))
    _add("datetime.timezone", reduce=(_sig(_m(k.OBJECT), _STR, required=1),))
    _add("decimal.Decimal", reduce=(_sig(_STR),))
    _add("fractions.Fraction", reduce=(_sig(_STR), _sig(_INT, _INT)))
    _add("uuid.UUID", newobj=(_NOTHING,), result=k.STATEFUL)
    _add("uuid.SafeUUID", reduce=(_sig(_INT | _NONE),))
    for module in ("pathlib", "pathlib._local"):
        for name in ("PurePath", "PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath"):
            _add(f"{module}.{name}", reduce=(_sig(rest=_STR),))


_TYPED_STORAGES: Final = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexDouble": "complex128", "ComplexFloat": "complex64",
    "QInt8": "qint8", "QUInt8": "quint8", "QInt32": "qint32", "QUInt4x2": "quint4x2", "QUInt2x4": "quint2x4",
}  # fmt: skip

STORAGE_DTYPES: Final[dict[str, str]] = {}
"""The storage class that a file names → torch's name of its element type ("uint8" for an untyped storage)."""

TENSOR_DTYPES: Final[dict[str, str]] = {}
"""A legacy dense tensor class → its element type."""


def _torch_values() -> None:
    for dtype in DTYPE_BITS:
        _add(f"torch.{dtype}", kind=k.DTYPE)
    for bits in range(1, 8):
        _add(f"torch.int{bits}", kind=k.DTYPE)
        _add(f"torch.uint{bits}", kind=k.DTYPE)
    for scheme in ("affine", "symmetric"):
        _add(f"torch.per_tensor_{scheme}", kind=k.QSCHEME)
        _add(f"torch.per_channel_{scheme}", kind=k.QSCHEME)
    _add("torch.per_channel_affine_float_qparams", kind=k.QSCHEME)
    for name, dtype in _TYPED_STORAGES.items():
        for module in ("torch", "torch.cuda", "torch.storage"):
            STORAGE_DTYPES[f"{module}.{name}Storage"] = dtype
    for module in ("torch", "torch.storage"):
        STORAGE_DTYPES[f"{module}.UntypedStorage"] = "uint8"
    STORAGE_DTYPES["torch.cuda.UntypedStorage"] = "uint8"
    for name in STORAGE_DTYPES:
        _add(name, kind=k.STORAGE_TYPE)
    _add("torch.storage.TypedStorage", kind=k.STORAGE_TYPE)
    _add("torch.TypedStorage", kind=k.STORAGE_TYPE)
    for name, dtype in _TYPED_STORAGES.items():
        if name.startswith(("Q", "Complex")):
            continue
        for module in ("torch", "torch.cuda"):
            TENSOR_DTYPES[f"{module}.{name}Tensor"] = dtype
            _add(f"{module}.{name}Tensor", reduce=(_NOTHING,), newobj=(_NOTHING,), result=k.EMPTY_TENSOR)
        for module in ("torch.sparse", "torch.cuda.sparse"):
            _add(f"{module}.{name}Tensor")
    TENSOR_DTYPES["torch.Tensor"] = "float32"
    _add("torch.Tensor", reduce=(_NOTHING,), newobj=(_NOTHING,), result=k.EMPTY_TENSOR)


def _torch_calls() -> None:
    flag, more = _BOOL, _m(k.DICT, k.NONE)
    dense = (_STORAGE, _INT, _SIZE, _SIZE)
    rebuilt = dict[str, tuple[Signature, ...]](
        _rebuild_tensor=(_sig(*dense),),
        _rebuild_tensor_v2=(_sig(*dense, flag, _HOOKS, more, required=6),),
        _rebuild_tensor_v3=(_sig(*dense, flag, _HOOKS, _DTYPE, more, required=7),),
        _rebuild_parameter=(_sig(_TENSOR, flag, _HOOKS),),
        _rebuild_parameter_with_state=(_sig(_TENSOR, flag, _HOOKS, _m(k.DICT, k.TUPLE, k.NONE)),),
        _rebuild_qtensor=(_sig(*dense, _TUPLE, flag, _HOOKS),),
        _rebuild_sparse_tensor=(_sig(_m(k.LAYOUT), _TUPLE),),
        _rebuild_meta_tensor_no_storage=(_sig(_DTYPE, _SIZE, _SIZE, flag),),
        _rebuild_nested_tensor=(_sig(_TENSOR, _TENSOR, _TENSOR, _TENSOR),),
        _rebuild_device_tensor_from_cpu_tensor=(_sig(_TENSOR, _DTYPE, _STR, flag),),
        _rebuild_device_tensor_from_numpy=(_sig(_m(k.NPARRAY), _DTYPE, _STR, flag),),
        _rebuild_wrapper_subclass=(_sig(_CLASS | _OTHER, _DTYPE, _SIZE, _SIZE, _INT, _m(k.LAYOUT), _m(k.STR, k.DEVICE), flag),),
        _rebuild_xla_tensor=(_sig(_m(k.NPARRAY), _DTYPE, _STR, flag),),
    )
    for name, signatures in rebuilt.items():
        _add(f"torch._utils.{name}", reduce=signatures, result=k.TENSOR)
    state = k.PLAIN | _m(k.DICT, k.LIST, k.TUPLE)
    for module in ("torch._tensor", "torch.tensor"):
        _add(f"{module}._rebuild_from_type_v2", reduce=(_sig(_CLASS, _CLASS | _OTHER, _TUPLE, state),), result=k.TENSOR)
        _add(f"{module}._rebuild_from_type", reduce=(_sig(_CLASS, _CLASS | _OTHER, _TUPLE, _m(k.DICT)),), result=k.TENSOR)
    made = (_sig(_TENSOR, flag, required=1),)
    _add("torch.nn.parameter.Parameter", reduce=made, newobj=made, result=k.TENSOR)
    _add("torch.nn.parameter.Buffer")
    _add("torch.nested._internal.nested_tensor.NestedTensor")
    _add("torch.nested._internal.nested_tensor._rebuild_njt", reduce=(_sig(_m(k.DICT)),), result=k.TENSOR)
    _add("torch._C.Generator", reduce=(_sig(_m(k.DEVICE)),), result=k.STATEFUL)
    _add("torch._dynamo.decorators._DimRange", newobj=(_NOTHING,), result=k.STATEFUL)
    _add("torch.Size", reduce=(_sig(_SEQUENCE), _NOTHING), newobj=(_sig(_SEQUENCE),), result=k.SIZE)
    _add("torch.device", reduce=(_sig(_STR, _INT, required=1),), result=k.DEVICE)
    _add("torch.serialization._get_layout", reduce=(_sig(_STR),), result=k.LAYOUT)


def _numpy() -> None:
    raw = _m(k.BYTES, k.STR)
    number = _m(k.BOOL, k.INT)
    _add("numpy.ndarray", kind=k.GLOBAL)
    plain = {0: lambda text: bool(_PLAIN_DTYPE(text))}
    _add("numpy.dtype", reduce=(_sig(_STR, number, number, required=1, texts=plain),), result=k.NPDTYPE)
    for core in ("core", "_core"):
        _add(f"numpy.{core}.multiarray._reconstruct", reduce=(_sig(_CLASS | _m(k.UNKNOWN), _TUPLE, raw),), result=k.NPARRAY)
        _add(f"numpy.{core}.multiarray.scalar", reduce=(_sig(_m(k.NPDTYPE), raw),))
        buffer, axes = _m(k.BYTES, k.BYTEARRAY), _TUPLE | _NONE
        _add(
            f"numpy.{core}.numeric._frombuffer",
            reduce=(_sig(buffer, _m(k.NPDTYPE), _SIZE, _STR, axes, required=4, texts={3: _one_of("C", "F", "K")}),),
            result=k.NPARRAY,
        )
    for name in generators.CLASSES:
        _add(name)
    made = _STR | _CLASS | _m(k.NPRNG)
    for name in generators.CONSTRUCTORS:
        _add(name, reduce=(_sig(made, _CLASS, required=0),), result=k.NPRNG)
    _add(generators.SEED_CLASS)
    _add(generators.SEED_CONSTRUCTOR, reduce=(_sig(_CLASS, _INT, _TUPLE | _NONE),), result=k.NPRNG)
    for name in (  # noqa: SIM905 — a list of forty words reads better without its quotes
        "bool_ bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 longlong ulonglong float16 float32 float64 longdouble "
        "complex64 complex128 clongdouble str_ bytes_ datetime64 timedelta64"
    ).split():
        _add(f"numpy.{name}", kind=k.TYPE)


for _table in (_builtins, _collections, _standard_library, _torch_values, _torch_calls, _numpy):
    _table()

# What BUILD may give to a value of a kind: a mask for the state, and, for a dict, the only keys it may hold.
BUILD_STATE: Final[dict[int, tuple[int, frozenset[str] | None]]] = {
    k.ODICT: (_DICT, frozenset({"_metadata"})),
    k.EMPTY_TENSOR: (_TUPLE, None),
    k.TENSOR: (_TUPLE, None),
    k.NPDTYPE: (_TUPLE, None),
    k.NPARRAY: (_TUPLE, None),
    k.NPRNG: (_m(k.DICT, k.TUPLE), None),
    k.STATEFUL: (_m(k.DICT, k.TUPLE, k.LIST), None),
    k.ARRAY_WRAPPER: (_DICT, None),
    k.SCRIPT_OBJECT: (k.ANY, None),
}

_ANYTHING: Final = (_sig(rest=k.ANY),)
_SCRIPT_CALLS: Final = {
    f"torch.jit._pickle.{name}": Modelled(f"torch.jit._pickle.{name}", reduce=(_sig(_LIST),), result=k.LIST)
    for name in ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
}
_SCRIPT_CALLS["torch.jit._pickle.restore_type_tag"] = Modelled(
    "torch.jit._pickle.restore_type_tag", reduce=(_sig(k.ANY, _STR),), result=-1
)


def described(name: str) -> Modelled:
    """A class whose objects are described and never made, whatever they are given."""
    return Modelled(name, k.SCRIPT, reduce=_ANYTHING, newobj=_ANYTHING, result=k.SCRIPT_OBJECT)


def script_global(module: str, attribute: str) -> Modelled | None:
    """What is modelled in a TorchScript archive: its own classes, which no package holds, and its list builders."""
    if module == "__torch__" or module.startswith("__torch__."):
        return described(f"{module}.{attribute}")
    return _SCRIPT_CALLS.get(f"{module}.{attribute}") or MODELLED.get(f"{module}.{attribute}")

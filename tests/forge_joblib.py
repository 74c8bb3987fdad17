"""Forge joblib's files: descriptions of arrays between opcodes, with whatever bytes behind them."""

from __future__ import annotations

from tests import forge

WRAPPER = forge.GLOBAL("joblib.numpy_pickle", "NumpyArrayWrapper")


def dtype(text: str, *, order: str = "<", state: bytes | None = None) -> bytes:
    """A dtype as numpy pickles it."""
    head = forge.stream(forge.GLOBAL("numpy", "dtype"), forge.TEXT(text), forge.NEWFALSE, forge.NEWTRUE, forge.TUPLE3, forge.REDUCE)
    fields = forge.stream(forge.NONE * 3, forge.INT(-1), forge.INT(-1), forge.INT(63 if "O" in text else 0))
    plain = forge.stream(forge.MARK, forge.INT(3), forge.TEXT("|" if "O" in text else order), fields, forge.TUPLE)
    return forge.stream(head, plain if state is None else state, forge.BUILD)


def described(
    shape: tuple[int, ...] = (2,),
    kind: bytes | None = None,
    *,
    padding: int | None = 16,
    head: bytes | None = None,
    **fields: bytes,
) -> bytes:
    """A description, up to and with its BUILD; the array's bytes belong behind it.

    Args:
        shape: Elements per dimension.
        kind: The dtype's opcodes; float64 by default.
        padding: What joblib writes as the alignment; None leaves it out, as joblib before 1.2 did.
        head: What makes the description; by default NEWOBJ of the class.
        **fields: More or other keys, as opcodes.
    """
    sizes = forge.stream(forge.MARK, *(forge.INT(size) for size in shape), forge.TUPLE)
    state = {
        "subclass": forge.GLOBAL("numpy", "ndarray"),
        "shape": sizes,
        "order": forge.TEXT("C"),
        "dtype": dtype("f8") if kind is None else kind,
        "allow_mmap": forge.NEWTRUE,
        **({} if padding is None else {"numpy_array_alignment_bytes": forge.INT(padding)}),
        **fields,
    }
    pairs = forge.stream(*(forge.stream(forge.TEXT(key), value) for key, value in state.items()))
    made = forge.stream(WRAPPER, forge.EMPTY_TUPLE, forge.NEWOBJ) if head is None else head
    return forge.stream(made, forge.EMPTY_DICT, forge.MARK, pairs, forge.SETITEMS, forge.BUILD)


def padded(data: bytes, count: int = 3) -> bytes:
    """The padding byte, the padding, the data."""
    return bytes([count]) + b"\xff" * count + data


def file_of(*parts: bytes, protocol: int = 3) -> bytes:
    """A dict {"a": …} around an array and what follows it."""
    return forge.stream(forge.PROTO(protocol), forge.EMPTY_DICT, forge.TEXT("a"), *parts, forge.SETITEM, forge.STOP)

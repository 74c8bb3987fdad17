"""Kinds: what the symbolic walk knows of a value, and what a signature asks of an argument.

A slot of the walk is one 64-bit integer, `kind | payload << 6`. The numbers here are used as plain literals in
`_machine.py`, where the compiled build turns comparisons with literals into a switch; `test_kinds` holds both together.
"""

from __future__ import annotations

from typing import Final

NOTHING: Final = 0  # an empty memo entry
NONE: Final = 1
BOOL: Final = 2
INT: Final = 3
BIGINT: Final = 4  # an int that was written as LONG: its hash is not bounded by its writing
FLOAT: Final = 5
STR: Final = 6
BYTES: Final = 7
BYTEARRAY: Final = 8
TUPLE: Final = 9
LIST: Final = 10
DICT: Final = 11
SET: Final = 12
FROZENSET: Final = 13
GLOBAL: Final = 14  # a modelled function or class, as a value; payload: index of the global
UNKNOWN: Final = 15  # a global that is not modelled; payload: index of the global
RESULT: Final = 16  # what a call of such a global would give; payload: index of the event
COMPLEX: Final = 17
ODICT: Final = 18
COUNTER: Final = 19
DEFAULTDICT: Final = 20
DEQUE: Final = 21
STORAGE: Final = 22
TENSOR: Final = 23
DTYPE: Final = 24
LAYOUT: Final = 25
QSCHEME: Final = 26
SIZE: Final = 27
DEVICE: Final = 28
NPDTYPE: Final = 29
NPARRAY: Final = 30
OBJECT: Final = 31  # any other modelled, immutable value: slice, range, datetime, Decimal …
STORAGE_TYPE: Final = 32  # torch.FloatStorage and its like, as a value
TYPE: Final = 33  # builtins.list and its like: harmless types as values
EMPTY_TENSOR: Final = 34  # a legacy tensor that waits for its state
NPRNG: Final = 35  # a numpy bit generator or generator that takes a state
STATEFUL: Final = 36  # any other modelled object that takes plain state
ARRAY_WRAPPER: Final = 37  # joblib's description of an array whose bytes follow it
SCRIPT: Final = 38  # a TorchScript class, which lives in the archive: described, never made
SCRIPT_OBJECT: Final = 39
ARRAY_CLASS: Final = 40  # the class of such a description
FETCHER: Final = 41  # builtins.getattr, by which pickle writes nested classes; see `Walker.fetch`

NAMES: Final[dict[int, str]] = {
    value: name.lower() for name, value in dict(globals()).items() if name.isupper() and isinstance(value, int)
}


def mask(*kinds: int) -> int:
    """The set of `kinds` as one integer with a bit each."""
    total = 0
    for kind in kinds:
        total |= 1 << kind
    return total


ANY: Final = (1 << 62) - 1
INTEGER: Final = mask(INT, BIGINT)
PLAIN: Final = mask(NONE, BOOL, INT, BIGINT, FLOAT, STR, BYTES, COMPLEX, TUPLE)
MAPPING: Final = mask(DICT, ODICT, COUNTER, DEFAULTDICT)
UNHASHABLE: Final = mask(LIST, DICT, SET, BYTEARRAY, ODICT, COUNTER, DEFAULTDICT, DEQUE, NPARRAY)
INERT: Final = mask(UNKNOWN, RESULT)


def names(bits: int) -> str:
    """The kinds in a mask, for a message."""
    return " or ".join(name for kind, name in sorted(NAMES.items()) if bits >> kind & 1) if bits != ANY else "anything"

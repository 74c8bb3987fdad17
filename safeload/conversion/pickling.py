"""A tree as a pickle stream of protocol 2, in the opcodes that `torch.load(weights_only=True)` takes wherever there is a choice.

Nothing is pickled by Python's own pickler: the tree is inert, and only names are written. Iterative, like everything here.
"""

from __future__ import annotations

import collections
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

from safeload.conversion.recorder import Recipe, Recorder
from safeload.errors import UnsupportedError
from safeload.findings import escape
from safeload.program import DTYPE_BITS, Global, Inert, StorageSpec, TensorSpec
from safeload.walk import values
from safeload.walk.signatures import STORAGE_DTYPES

__all__ = ["Pickled", "pickle_tree"]

_BATCH: Final = 1000
_CONSTANTS: Final = {id(value): name for name, value in values.CONSTANTS.items()}
_TYPED: Final = {dtype: name for name, dtype in STORAGE_DTYPES.items() if name.count(".") == 1 and "Untyped" not in name}
_UNTYPED: Final = "torch.storage.UntypedStorage"

KeyOf = Callable[[StorageSpec], tuple[str, StorageSpec, int]]
"""Gives a storage's key in the archive, the storage that has the bytes, and where in it the asked one begins, in bytes."""

Action = tuple[int, Any]
_WRITE, _RAW, _FILL, _AFTER = range(4)


class Pickled:
    """A stream in the making.

    Args:
        key_of: Names storages.
        recorder: How objects that are not plain data came to be.
    """

    def __init__(self, key_of: KeyOf, recorder: Recorder | None) -> None:
        self._key_of = key_of
        self._recipes: dict[int, Recipe] = recorder.recipes if recorder is not None else {}
        self._out = bytearray(b"\x80\x02")
        self._memo: dict[Any, int] = {}
        self._todo: list[Action] = []
        self._keep: list[Any] = []

    def run(self, root: Any) -> bytes:
        """Write the whole tree."""
        self._todo.append((_WRITE, root))
        while self._todo:
            what, value = self._todo.pop()
            if what == _WRITE:
                self._value(value)
            elif what == _RAW:
                self._out += value
            elif what == _FILL:
                value()
            else:
                self._tuple_done(value)
        return bytes(self._out + b".")

    # ---- the plan: actions are pushed in reverse, the last one pushed comes first

    def _push(self, *actions: Action) -> None:
        self._todo.extend(reversed(actions))

    def _remember(self, key: Any, value: Any) -> None:
        """Put the top of the stack into the memo."""
        number = self._memo[key] = len(self._memo)
        self._keep.append(value)
        self._out += b"q" + bytes([number]) if number < 256 else b"r" + struct.pack("<I", number)

    def _recall(self, key: Any) -> bool:
        number = self._memo.get(key)
        if number is None:
            return False
        self._out += b"h" + bytes([number]) if number < 256 else b"j" + struct.pack("<I", number)
        return True

    def _value(self, value: Any) -> None:
        if self._scalar(value):
            return
        name = self._global_name(value)
        if name is not None:
            self._global(name)
        elif not self._recall(id(value)):
            writer = _WRITERS.get(type(value))
            recipe = self._recipes.get(id(value))
            if writer is not None:
                writer(self, value)
            elif recipe is not None:
                self._call(recipe)
            else:
                raise UnsupportedError(f"a {escape(type(value).__name__)} cannot be exported")

    def _global_name(self, value: Any) -> str | None:
        if type(value) is Global:
            return value.name
        if type(value) is Inert and id(value) not in self._recipes:
            return value.global_name
        return _CONSTANTS.get(id(value))

    def _global(self, name: str) -> None:
        if self._recall(("global", name)):
            return
        module, _, attribute = name.rpartition(".")
        if not module or "\n" in name or not name.isprintable():
            raise UnsupportedError(f"a global named {escape(name)} cannot be written")
        self._out += b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"
        self._remember(("global", name), None)

    # ---- scalars

    def _scalar(self, value: Any) -> bool:
        if value is None:
            self._out += b"N"
        elif type(value) is bool:
            self._out += b"\x88" if value else b"\x89"
        elif type(value) is int:
            self._int(value)
        elif type(value) is float:
            self._out += b"G" + struct.pack(">d", value)
        elif type(value) is str:
            self._text(value)
        elif type(value) is bytes:
            self._bytes(value)
        elif type(value) is complex:
            self._global("builtins.complex")
            self._out += b"G" + struct.pack(">d", value.real) + b"G" + struct.pack(">d", value.imag) + b"\x86R"
        else:
            return False
        return True

    def _int(self, value: int) -> None:
        if 0 <= value < 256:
            self._out += b"K" + bytes([value])
        elif 0 <= value < 65536:
            self._out += b"M" + struct.pack("<H", value)
        elif -(1 << 31) <= value < 1 << 31:
            self._out += b"J" + struct.pack("<i", value)
        else:
            raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self._out += b"\x8a" + bytes([len(raw)]) + raw if len(raw) < 256 else b"\x8b" + struct.pack("<I", len(raw)) + raw

    def _text(self, value: str) -> None:
        if self._recall((str, value)):
            return
        raw = value.encode("utf-8", "surrogatepass")
        self._out += b"X" + struct.pack("<I", len(raw)) + raw
        self._remember((str, value), None)

    def _bytes(self, value: bytes) -> None:
        """As protocol 2 has no bytes: text of the same codes, encoded back."""
        if self._recall((bytes, value)):
            return
        self._global("_codecs.encode")
        self._text(value.decode("latin-1"))
        self._text("latin1")
        self._out += b"\x86R"
        self._remember((bytes, value), None)

    # ---- containers

    def _batches(self, items: list[Any], single: bytes, several: bytes, width: int = 1) -> list[Action]:
        actions: list[Action] = []
        for start in range(0, len(items), _BATCH * width):
            part = items[start : start + _BATCH * width]
            if len(part) == width:
                actions += [*((_WRITE, item) for item in part), (_RAW, single)]
            else:
                actions += [(_RAW, b"("), *((_WRITE, item) for item in part), (_RAW, several)]
        return actions

    def write_list(self, value: list[Any]) -> None:
        """A list."""
        self._out += b"]"
        self._remember(id(value), value)
        self._push(*self._batches(value, b"a", b"e"))

    def _pairs(self, pairs: Iterable[tuple[Any, Any]]) -> list[Action]:
        return self._batches([part for pair in pairs for part in pair], b"s", b"u", 2)

    def write_dict(self, value: dict[Any, Any]) -> None:
        """A dict."""
        self._out += b"}"
        self._remember(id(value), value)
        self._push(*self._pairs(value.items()))

    def write_ordered(self, value: collections.OrderedDict[Any, Any]) -> None:
        """An OrderedDict, with its attributes."""
        self._global("collections.OrderedDict")
        self._out += b")R"
        self._remember(id(value), value)
        attributes = [(_WRITE, dict(value.__dict__)), (_RAW, b"b")] if value.__dict__ else []
        self._push(*self._pairs(value.items()), *attributes)

    def write_counter(self, value: dict[Any, Any]) -> None:
        """A Counter."""
        self._global("collections.Counter")
        self._out += b"}\x85R"
        self._remember(id(value), value)
        self._push(*self._pairs(value.items()))

    def write_defaultdict(self, value: collections.defaultdict[Any, Any]) -> None:
        """A defaultdict."""
        self._global("collections.defaultdict")
        self._value(value.default_factory)
        self._out += b"\x85R"
        self._remember(id(value), value)
        self._push(*self._pairs(value.items()))

    def write_deque(self, value: collections.deque[Any]) -> None:
        """A deque."""
        self._global("collections.deque")
        self._out += b")"
        self._value(value.maxlen)
        self._out += b"\x86R"
        self._remember(id(value), value)
        self._push(*self._batches(list(value), b"a", b"e"))

    def write_set(self, value: set[Any] | frozenset[Any]) -> None:
        """A set or frozenset."""
        name = "builtins.set" if type(value) is set else "builtins.frozenset"
        self._global(name)
        members = list(value)
        self._keep.append(members)
        self._push((_WRITE, members), (_RAW, b"\x85R"), (_FILL, lambda: self._remember(id(value), value)))

    def write_bytearray(self, value: bytearray) -> None:
        """A bytearray."""
        self._global("builtins.bytearray")
        self._text(value.decode("latin-1"))
        self._text("latin-1")
        self._out += b"\x86R"
        self._remember(id(value), value)

    def write_tuple(self, value: tuple[Any, ...]) -> None:
        """A tuple."""
        if not value:
            self._out += b")"
            return
        short = len(value) <= 3
        self._push(*([] if short else [(_RAW, b"(")]), *((_WRITE, item) for item in value), (_AFTER, value))

    def _tuple_done(self, value: tuple[Any, ...]) -> None:
        """A tuple whose list held the tuple was written inside already: take that one, as pickle does."""
        if id(value) in self._memo:
            self._out += b"0" * len(value) if len(value) <= 3 else b"1"
            self._recall(id(value))
            return
        self._out += {1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(len(value), b"t")
        self._remember(id(value), value)

    # ---- torch

    def write_storage(self, spec: StorageSpec) -> None:
        """A storage that stands in the data itself."""
        key, root, at = self._key_of(spec)
        if at or root.nbytes != spec.nbytes:
            raise UnsupportedError("a storage that is a slice of another has no form in a torch zip")
        self._persistent(spec, key, spec.numel)

    def _persistent(self, spec: StorageSpec, key: str, numel: int) -> None:
        typed = spec.typed and spec.dtype in _TYPED
        self._out += b"("
        self._text("storage")
        self._global(_TYPED[spec.dtype] if typed else _UNTYPED)
        self._text(key)
        self._text(spec.location)
        self._int(numel if typed else spec.nbytes)
        self._out += b"tQ"

    def write_tensor(self, spec: TensorSpec) -> None:
        """A tensor over its storage."""
        key, root, at = self._key_of(spec.storage)
        size = DTYPE_BITS[spec.dtype] // 8
        if at % size:
            raise UnsupportedError("a tensor that does not begin at an element of its storage")
        usual = spec.dtype == spec.storage.dtype and spec.storage.typed
        plain = usual and not spec.global_name.endswith(("_v2", "_v3"))
        self._global(f"torch._utils._rebuild_tensor{'' if plain else '_v2' if usual else '_v3'}")
        self._out += b"("
        self._persistent(root, key, root.numel)
        self._int(spec.offset + at // size)
        for numbers in (spec.shape, spec.stride):
            self._out += b"("
            for number in numbers:
                self._int(number)
            self._out += b"t"
        if not plain:
            self._out += b"\x88" if spec.requires_grad else b"\x89"
            self._global("collections.OrderedDict")
            self._out += b")R"
        if not usual:
            self._global(f"torch.{spec.dtype}")
        if spec.conj or spec.neg:
            self._out += b"}"
            for flag, on in (("conj", spec.conj), ("neg", spec.neg)):
                if on:
                    self._text(flag)
                    self._out += b"\x88s"
        self._out += b"tR"
        self._remember(id(spec), spec)

    # ---- calls

    def _call(self, recipe: Recipe) -> None:
        target = recipe.value
        after: list[Action] = [(_FILL, lambda: self._remember(id(target), target))]
        for what, value in recipe.then:
            if what == "state":
                after += [(_WRITE, value), (_RAW, b"b")]
            elif what == "append":
                after += self._batches(value, b"a", b"e")
            else:
                after += self._pairs(value)
        if recipe.op == "PERSID":
            self._push((_WRITE, recipe.args), (_RAW, b"Q"), *after)
            return
        if recipe.op == "":
            self._push((_FILL, lambda: self._global(recipe.callee)), *after)
            return
        args = recipe.args if type(recipe.args) is tuple else (recipe.args,)
        if recipe.op == "NEWOBJ_EX":
            self._out[1] = 4
            self._push((_WRITE, recipe.callee), (_WRITE, args), (_WRITE, dict(recipe.kwargs)), (_RAW, b"\x92"), *after)
            return
        arguments: list[Action] = [(_RAW, b"("), *((_WRITE, item) for item in args), (_RAW, b"t")] if args else [(_RAW, b")")]
        self._push((_WRITE, recipe.callee), *arguments, (_RAW, b"\x81" if recipe.op == "NEWOBJ" else b"R"), *after)


def pickle_tree(root: Any, recorder: Recorder | None, key_of: KeyOf) -> bytes:
    """Return a tree as one pickle stream.

    Args:
        root: Of a spec-mode build.
        recorder: The model of that build; None when no call was made.
        key_of: Names storages.

    Raises:
        UnsupportedError: something in it has no form in a stream.
    """
    return Pickled(key_of, recorder).run(root)


_WRITERS: Final[dict[type, Callable[[Pickled, Any], None]]] = {
    list: Pickled.write_list, dict: Pickled.write_dict, tuple: Pickled.write_tuple, set: Pickled.write_set, frozenset: Pickled.write_set,
    collections.OrderedDict: Pickled.write_ordered, collections.Counter: Pickled.write_counter,
    collections.defaultdict: Pickled.write_defaultdict, collections.deque: Pickled.write_deque, bytearray: Pickled.write_bytearray,
    StorageSpec: Pickled.write_storage, TensorSpec: Pickled.write_tensor,
}  # fmt: skip

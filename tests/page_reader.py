"""A reader of converted files that was written from docs/conversion.md alone. It shares no code with safeload.

It is what somebody else would write: JSON, bytes, torch, and nothing checked. It imports what a manifest names and calls it, so it reads
only files that a test has just made.
"""

from __future__ import annotations

import base64
import collections
import hashlib
import importlib
import itertools
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

__all__ = ["PageReader", "read_page"]

Json = Any
_COMPLEX = {"complex32": 2, "complex64": 4, "complex128": 8}


def read_page(path: Path) -> Any:
    """Return the object that a converted file, or the index of several, holds."""
    if path.name.endswith(".json"):
        names = json.loads(path.read_text())["weight_map"].values()
        return PageReader([path.with_name(name) for name in sorted(set(names))]).root()
    return PageReader([path]).root()


class PageReader:
    """One converted checkpoint.

    Args:
        paths: Its files.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.entries: dict[str, bytes] = {}
        metadata: dict[str, str] = {}
        for path in paths:
            raw = path.read_bytes()
            (length,) = struct.unpack("<Q", raw[:8])
            header = json.loads(raw[8 : 8 + length])
            metadata = header.pop("__metadata__")
            for name, entry in header.items():
                start, end = entry["data_offsets"]
                self.entries[name] = raw[8 + length + start : 8 + length + end]
        text = metadata.get("safeload.tree")
        if text is None:
            name, digest, size = metadata["safeload.sidecar"].rsplit(" ", 2)
            data = paths[0].with_name(name).read_bytes()
            assert (hashlib.sha256(data).hexdigest(), len(data)) == (digest, int(size))
            text = data.decode("ascii")
        self.manifest = json.loads(text)
        assert self.manifest["version"] == 1
        self.shared: dict[str, torch.UntypedStorage] = {}
        self.storages: dict[int, Any] = {}
        self.objects: dict[int, Any] = {}

    def root(self) -> Any:
        """The object itself."""
        return self.value(self.manifest["root"])

    # ---- values

    def value(self, found: Json) -> Any:
        """What a JSON value stands for."""
        if isinstance(found, list):
            return self.node(found[0])
        if not isinstance(found, dict):
            return found
        ((kind, text),) = found.items()
        readers: dict[str, Callable[[Any], Any]] = {
            "global": lambda number: self.named(self.manifest["globals"][number]),
            "int": lambda text: int(text, 16),
            "float": number,
            "complex": lambda pair: complex(number(pair[0]), number(pair[1])),
            "bytes": base64.b64decode,
            "str": lambda text: base64.b64decode(text).decode("utf-8", "surrogatepass"),
        }
        return readers[kind](text)

    def named(self, name: str) -> Any:
        """A class, function, dtype or constant."""
        if name.startswith("__builtin__."):
            name = name.replace("__builtin__", "builtins", 1)
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)

    # ---- nodes

    def node(self, number: int) -> Any:
        """One object, the same wherever it stands."""
        if number not in self.objects:
            kind, *rest = self.manifest["nodes"][number]
            getattr(self, f"_{kind}")(number, *rest)
        return self.objects[number]

    def values(self, found: list[Json]) -> list[Any]:
        """Several values."""
        return [self.value(item) for item in found]

    def fill(self, mapping: Any, pairs: list[Json]) -> None:
        """Set pairs in their order."""
        for key, item in pairs:
            mapping[self.value(key)] = self.value(item)

    def _list(self, number: int, values: Json) -> None:
        self.objects[number] = made = []
        made.extend(self.values(values))

    def _tuple(self, number: int, values: Json) -> None:
        made = tuple(self.values(values))
        self.objects.setdefault(number, made)  # one that holds itself was made on the way

    def _set(self, number: int, values: Json) -> None:
        self.objects[number] = set(self.values(values))

    def _frozenset(self, number: int, values: Json) -> None:
        self.objects[number] = frozenset(self.values(values))

    def _dict(self, number: int, pairs: Json) -> None:
        self.objects[number] = {}
        self.fill(self.objects[number], pairs)

    def _counter(self, number: int, pairs: Json) -> None:
        self.objects[number] = collections.Counter()
        self.fill(self.objects[number], pairs)

    def _odict(self, number: int, pairs: Json, attributes: Json = None) -> None:
        made: collections.OrderedDict[Any, Any] = collections.OrderedDict()
        self.objects[number] = made
        self.fill(made, pairs)
        if attributes is not None:
            self.fill(made.__dict__, attributes)

    def _defaultdict(self, number: int, factory: Json, pairs: Json) -> None:
        self.objects[number] = collections.defaultdict(self.value(factory))
        self.fill(self.objects[number], pairs)

    def _deque(self, number: int, maxlen: Json, values: Json) -> None:
        self.objects[number] = collections.deque(maxlen=maxlen)
        self.objects[number].extend(self.values(values))

    def _bytes(self, number: int, payload: int) -> None:
        self.objects[number] = self.entries[self.manifest["payloads"][payload]]

    def _bytearray(self, number: int, found: Json) -> None:
        raw = self.entries[self.manifest["payloads"][found]] if isinstance(found, int) else self.value(found)
        self.objects[number] = bytearray(raw)

    def _scalar(self, number: int, value: Json) -> None:
        self.objects[number] = self.value(value)

    def _storage(self, number: int, index: int) -> None:
        self.objects[number] = self.storage(index)

    def _tensor(self, number: int, found: Json) -> None:
        about = self.manifest["storages"][found["of"]]
        dtype = getattr(torch, found.get("dtype", about["dtype"]))
        shape = found["shape"]
        stride = found.get("stride", row_major(shape))
        made = torch.empty(0, dtype=dtype)
        made.set_(self.untyped(found["of"]), found.get("offset", 0), shape, stride)
        made = torch._conj(made) if found.get("conj") else made
        made = torch._neg_view(made) if found.get("neg") else made
        made.requires_grad_(found.get("requires_grad", False))
        self.objects[number] = made

    def _call(self, number: int, callee: Json, args: Json, more: Json = None) -> None:
        more = more or {}
        function, given, op = self.value(callee), self.values(args), more.get("op", "REDUCE")
        words = {self.value(key): self.value(item) for key, item in more.get("kwargs", [])}
        if op in ("NEWOBJ", "NEWOBJ_EX"):
            made = function.__new__(function, *given, **words)
        else:
            made = function if op == "GLOBAL" else function(*given, **words)
        self.objects[number] = made
        for what, found in more.get("then", []):
            if what == "state":
                self.set_state(made, self.value(found))
            elif what == "append":
                for item in self.values(found):
                    made.append(item)
            else:
                self.fill(made, found)

    def set_state(self, made: Any, state: Any) -> None:
        """As pickle does it."""
        if hasattr(made, "__setstate__"):
            made.__setstate__(state)
            return
        attributes, slots = state if isinstance(state, tuple) else (state, None)
        made.__dict__.update(attributes or {})
        for name, item in (slots or {}).items():
            setattr(made, name, item)

    # ---- storages

    def untyped(self, index: int) -> torch.UntypedStorage:
        """The memory of one storage; a slice is a storage of its own in the memory of another."""
        about = self.manifest["storages"][index]
        of = about.get("of")
        key = json.dumps(of) if of else f"storage {index}"
        if key in self.shared:
            return self.shared[key]
        size = getattr(torch, about["dtype"]).itemsize
        if "base" in about:
            start = about["offset"] * getattr(torch, self.manifest["storages"][about["base"]]["dtype"]).itemsize
            self.shared[key] = self.untyped(about["base"])[start : start + about["numel"] * size]
            return self.shared[key]
        raw = bytearray(b"".join(self.piece(piece) for piece in of or []))
        self.shared[key] = torch.UntypedStorage(len(raw))  # type: ignore[no-untyped-call]
        if raw:
            torch.empty(0, dtype=torch.uint8).set_(self.shared[key], 0, (len(raw),), (1,)).copy_(torch.frombuffer(raw, dtype=torch.uint8))
        return self.shared[key]

    def storage(self, index: int) -> Any:
        """A storage that stands in the data: the same object each time."""
        about = self.manifest["storages"][index]
        if index not in self.storages:
            dtype = getattr(torch, about["dtype"])
            self.storages[index] = torch.storage.TypedStorage(wrap_storage=self.untyped(index), dtype=dtype, _internal=True)  # type: ignore[no-untyped-call]
        return self.storages[index]

    def piece(self, found: Json) -> bytes:
        """The bytes of a storage that an entry holds, in the storage's order."""
        if isinstance(found, str):
            return self.entries[found]
        raw, size = bytearray(self.entries[found["entry"]]), found["itemsize"]
        if "flip" in found:
            real = found["real"]
            for at in range(0, len(raw), real):
                imaginary = at // real % 2 == 1
                if found["flip"] == "neg" or (found["flip"] == "conj") == imaginary:
                    raw[at + real - 1] ^= 0x80
        out = bytearray(len(raw))
        places = itertools.product(*(range(length) for length in found["shape"]))
        for index, place in enumerate(places):
            at = sum(step * along for step, along in zip(found["stride"], place, strict=True))
            out[at * size : (at + 1) * size] = raw[index * size : (index + 1) * size]
        return bytes(out)


def number(text: str) -> float:
    """A float from its text."""
    if text.startswith("nan:"):
        (found,) = struct.unpack(">d", bytes.fromhex(text[4:]))
        return float(found)
    return float.fromhex(text)


def row_major(shape: list[int]) -> list[int]:
    """The strides of a tensor that has none of its own."""
    out, step = [], 1
    for size in reversed(shape):
        out.append(step)
        step *= max(size, 1)
    return out[::-1]

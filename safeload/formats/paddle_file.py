"""PaddlePaddle's models for inference: programs (`.pdmodel`, or JSON since version 3) and their parameters (`.pdiparams`).

A program's operators run as soon as the model does, and some of them read or write the file that an attribute names, or call a Python
function. One that Paddle does not register comes out of a library. Checkpoints (`.pdparams`) are pickles, and read as such.
Source: Paddle's framework.proto; lod_tensor.cc and tensor_util.cc for the parameters.
"""

from __future__ import annotations

import functools
import json
import struct
from math import prod
from pathlib import Path
from typing import Any, Final

from safeload.errors import MalformedError
from safeload.findings import escape
from safeload.formats.base import Contents, Listed
from safeload.formats.checked_file import CheckedFile
from safeload.formats.code_text import note_code
from safeload.formats.container import Notes
from safeload.formats.json_tree import parse_json, texts_in
from safeload.formats.protobuf_wire import BYTES, VARINT, Wire, signed
from safeload.formats.window import Window
from safeload.source import Source

__all__ = ["PaddleParameters", "PaddleProgram", "PaddleText"]

_FIRST_BLOCK: Final = b"\x08\0\x10" + b"\xff" * 9 + b"\1"  # number 0, and no parent
_LARGEST_TEXT: Final = 64 << 20
_TEXTS: Final = frozenset((5, 8))  # of an attribute
_TRACE: Final = "op_callstack"  # lines of the source that made the operator

_DANGEROUS: Final = {
    "py_func": "calls a Python function",
    **dict.fromkeys(("load", "load_combine", "load_combine_extended", "load_combine_vocab", "load_sr", "read_file"), "reads files"),
    **dict.fromkeys(("save", "save_combine", "save_combine_vocab", "save_sr"), "writes files"),
}
_OPAQUE: Final = frozenset(("tensorrt_engine", "lite_engine", "openvino_engine", "dlnne_engine", "cinn_launch"))


@functools.cache
def _known() -> frozenset[str]:
    """Every operator that Paddle itself registers."""
    return frozenset(json.loads(Path(__file__).with_name("paddle_operators.json").read_text("utf-8"))["operators"])


class PaddleProgram(CheckedFile):
    """The format "paddle-program"."""

    name = "paddle-program"

    def claims(self, source: Source) -> bool:
        """A message whose first field begins as the first block does."""
        head = source.head(32)
        if head[:1] != b"\n":
            return False
        at = next((index for index in range(1, min(7, len(head))) if head[index] < 0x80), 7)
        return head[at + 1 :].startswith(_FIRST_BLOCK)

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """Look at every operator of every block by its name."""
        wire = Wire(source, "SL855")
        count = 0
        seen: set[str] = set()
        for number, form, start, end in wire.fields(0, source.size, "the program"):
            if number != 1 or form != BYTES:
                continue
            for inner, kind, a, b in wire.fields(start, end, "a block"):
                if inner == 4 and kind == BYTES:
                    count += 1
                    op, texts = _operator(wire, a, b)
                    if op not in seen or op in _DANGEROUS:
                        seen.add(op)
                        _judge(notes, op, texts, a)
                    note_code(notes, (("an attribute", text) for text in texts))
                elif inner == 3 and kind == BYTES:
                    _variable(wire, a, b, contents)
        contents.metadata["operators"] = str(count)
        contents.end = source.size


def _operator(wire: Wire, start: int, end: int) -> tuple[str, list[str]]:
    """The type of an operator, and the texts of its attributes."""
    op = ""
    texts: list[str] = []
    for number, form, a, b in wire.fields(start, end, "an operator"):
        if number == 3 and form == BYTES:
            op = wire.text(a, b, 256)
        elif number == 4 and form == BYTES:
            inside = [field for field in wire.fields(a, b, "an attribute") if field[1] == BYTES]
            if not any(inner == 1 and wire.text(c, d, 64) == _TRACE for inner, _, c, d in inside):
                texts += [wire.text(c, d, 4096) for inner, _, c, d in inside if inner in _TEXTS and d - c > 1]
    return op, texts


def _judge(notes: Notes, op: str, texts: list[str], at: int) -> None:
    shown = escape(op, 80)
    if op in _DANGEROUS:
        paths = [text for text in texts if "/" in text or "\\" in text or "." in text]
        notes.add("SL872", f"the operator '{op}' {_DANGEROUS[op]}" + (f": '{escape(paths[0], 120)}'" if paths else ""), offset=at)
    elif op in _OPAQUE:
        notes.add("SL871", f"the operator '{op}' runs code that was compiled for a device, which is not looked at", offset=at)
    elif op not in _known():
        notes.add("SL871", f"the operator '{shown}' is none of Paddle's own: it comes out of a library", offset=at)


def _variable(wire: Wire, start: int, end: int, contents: Contents) -> None:
    """A parameter with its shape, for those who list them."""
    name, kept, kind = "", False, 0
    dims: tuple[int, ...] = ()
    for number, form, a, b in wire.fields(start, end, "a variable"):
        if number == 1 and form == BYTES:
            name = wire.text(a, b, 1024)
        elif number == 3 and form == VARINT:
            kept = bool(a)
        elif number == 2 and form == BYTES:
            for inner, held, c, d in wire.fields(a, b, "a type"):
                if inner == 3 and held == BYTES:
                    for deep, last, e, f in wire.fields(c, d, "a dense tensor"):
                        if deep == 1 and last == BYTES:
                            kind, dims = _described(wire, e, f)
    if kept and dims and len(contents.listed) < 1_000_000:
        contents.listed.append(Listed(name, _TYPES.get(kind, (str(kind), 0))[0], dims, 0))


# ---- programs as JSON


class PaddleText(CheckedFile):
    """The format "paddle-json"."""

    name = "paddle-json"
    largest = _LARGEST_TEXT

    def claims(self, source: Source) -> bool:
        """An object that says that it is such a program."""
        return _document(source) is not None

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """Look at every operator's name, without the number of its dialect."""
        root = _document(source) or {}
        todo: list[Any] = [root.get("program")]
        seen: set[str] = set()
        while todo:
            node = todo.pop()
            if isinstance(node, dict):
                name = node.get("#")
                op = name.rpartition(".")[2].rstrip("_") if isinstance(name, str) else ""
                if op in _DANGEROUS and op not in seen:
                    texts = [text for _, text in texts_in(node.get("A"), 1000)]
                    _judge(notes, op, texts, 0)
                seen.add(op)
                todo += node.values()
            elif isinstance(node, list):
                todo += node
        contents.end = source.size


def _document(source: Source) -> dict[str, Any] | None:
    if "paddle" not in source.parsed:
        source.parsed["paddle"] = None
        data = bytes(source.view(0, source.size)) if 0 < source.size <= _LARGEST_TEXT else b""
        if b"base_code" in data or b"\\u00" in data:
            try:
                root = parse_json(data, _LARGEST_TEXT).root
            except MalformedError:
                root = None
            code = root.get("base_code") if isinstance(root, dict) else None
            if isinstance(code, dict) and code.get("magic") == "pir":
                source.parsed["paddle"] = root
    found: dict[str, Any] | None = source.parsed["paddle"]
    return found


# ---- parameters

_HEADER: Final = struct.Struct("<IQ")
_TENSOR: Final = struct.Struct("<IiB")
_LEVELS: Final = 64
_DESCRIPTION: Final = 4096
_TENSORS: Final = 10_000_000
_TYPES: Final = {
    0: ("BOOL", 1), 1: ("INT16", 2), 2: ("INT32", 4), 3: ("INT64", 8), 4: ("FP16", 2), 5: ("FP32", 4), 6: ("FP64", 8), 19: ("SIZE_T", 8),
    20: ("UINT8", 1), 21: ("INT8", 1), 22: ("BF16", 2), 23: ("COMPLEX64", 8), 24: ("COMPLEX128", 16), 32: ("FP8_E4M3FN", 1),
    33: ("FP8_E5M2", 1),
}  # fmt: skip


class PaddleParameters(CheckedFile):
    """The format "paddle-parameters": tensors without names, one behind the other."""

    name = "paddle-parameters"
    broken = "SL851"
    largest = 1 << 40

    def claims(self, source: Source) -> bool:
        """A first tensor without levels, with a description of a type and its sizes."""
        head = source.head(64)
        if len(head) < 25 or any(head[:16]):
            return False
        size = int.from_bytes(head[16:20], "little")
        return 4 <= size <= 40 and head[20] == 8 and head[21] in _TYPES and head[22] == 0x10

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """Compare every size with what is left."""
        window, wire, at = Window(source, "SL851"), Wire(source, "SL851"), 0
        for _ in range(_TENSORS):
            if at == source.size:
                break
            at = _tensor(window, wire, at, contents)
        contents.end = at
        if at != source.size:
            notes.add("SL855", f"more than {_TENSORS} tensors; the rest was not looked at", offset=at)


def _tensor(window: Window, wire: Wire, at: int, contents: Contents) -> int:
    version, levels = window.unpack(_HEADER, at, "a tensor's header")
    at += _HEADER.size
    if version or levels > _LEVELS:
        raise MalformedError(f"a tensor of version {version} with {levels} levels", where=f"@{at}").under("SL851")
    for _ in range(levels):
        at += 8 + int.from_bytes(window.view(at, 8, "a level"), "little")
    version, size, _ = window.unpack(_TENSOR, at, "a tensor's description")
    at += 8
    if version or not 0 < size <= _DESCRIPTION:
        raise MalformedError(f"a tensor of version {version} with a description of {size} bytes", where=f"@{at}").under("SL851")
    window.view(at, size, "a tensor's description")
    kind, dims = _described(wire, at, at + size)
    at += size
    if kind not in _TYPES or any(dim < 0 for dim in dims):
        raise MalformedError(f"a tensor of the type {kind} and the shape {dims}", where=f"@{at}").under("SL851")
    nbytes = prod(dims) * _TYPES[kind][1]
    if nbytes > wire.source.size - at:
        message = f"a tensor of {min(nbytes, 1 << 62)} bytes, and {wire.source.size - at} are left"
        raise MalformedError(message, where=f"@{at}").under("SL851")
    if len(contents.listed) < 1_000_000:
        contents.listed.append(Listed(f"[{len(contents.listed)}]", _TYPES[kind][0], dims, nbytes))
    return at + nbytes


def _described(wire: Wire, start: int, end: int) -> tuple[int, tuple[int, ...]]:
    """The type and the sizes of a tensor."""
    kind = -1
    dims: list[int] = []
    for number, form, a, b in wire.fields(start, end, "a tensor's description"):
        if number == 1 and form == VARINT:
            kind = a
        elif number == 2:
            dims += [signed(value) for value in wire.numbers(form, a, b, "a shape", 64)]
            if len(dims) > 64:
                raise wire.bad("a shape of more than 64 dimensions", start)
    return kind, tuple(dims)

"""A grammar of hostile streams: a name, how its texts reach the stack, which opcode calls it, and what stands around it.

stream   = protocol, framed(around(call(global(name))))
global   = GLOBAL | STACK_GLOBAL of two texts, each in one of eight opcodes, each direct or through the memo, with decoys
call     = REDUCE | NEWOBJ | NEWOBJ_EX | OBJ | INST | BUILD | APPEND … | nothing: a name is enough
around   = values, marks and containers before and behind it; its result kept, popped, or used as a key
framed   = no frames | one | several, each ending on an opcode | one that lies about its length
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

from tests import forge

NAMES = [
    ("os", "system"), ("posix", "popen"), ("nt", "startfile"), ("subprocess", "Popen"), ("builtins", "eval"), ("builtins", "exec"),
    ("builtins", "__import__"), ("__builtin__", "execfile"), ("commands", "getoutput"), ("cPickle", "loads"), ("runpy", "run_path"),
    ("importlib", "import_module"), ("pty", "spawn"), ("operator", "attrgetter"), ("torch.utils.collect_env", "run"), ("ctypes", "CDLL"),
    ("asyncio.unix_events", "_UnixSubprocessTransport._start"), ("numpy.f2py.crackfortran", "myeval"), ("pkgutil", "resolve_name"),
    ("some.package", "Thing"), ("nobody", "knows"), ("torch", "load"), ("collections", "_sys.modules"), ("os", "sÿstem"),
]  # fmt: skip


@dataclass
class Forger:
    """One random choice after the other; keeps count of the memo, because MEMOIZE does."""

    rng: random.Random
    protocol: int = 4
    memo: set[int] = field(default_factory=set)

    def gadget(self) -> tuple[bytes, tuple[str, str]]:
        """Return a stream without its STOP's trailing bytes, and the name that it is about."""
        self.protocol = self.rng.choice([0, 1, 2, 3, 4, 4, 5])
        self.memo = set()
        name = self.rng.choice(NAMES)
        parts = [*self._junk(), *self._around(self._call(*name)), *self._junk(), *self._ending()]
        head = [forge.PROTO(self.protocol)] if self.protocol >= 2 or self.rng.random() < 0.3 else []
        return forge.stream(*head, self._framed(parts)), name

    # ---- texts and names

    def _text(self, text: str) -> bytes:
        """One text in one of its opcodes."""
        raw = text.encode()
        plain = text.isascii()
        forms = [
            forge.TEXT(text),
            forge.OP["BINUNICODE"] + struct.pack("<I", len(raw)) + raw,
            forge.OP["BINUNICODE8"] + struct.pack("<Q", len(raw)) + raw,
            forge.LINE("UNICODE", "".join(self._escaped(char, r"\u%04x") for char in text).encode()),
        ]
        if plain:
            quote = self.rng.choice("'\"")
            quoted = "".join(self._escaped(char, self.rng.choice([r"\x%02x", r"\%03o"])) for char in text)
            forms += [
                forge.LINE("STRING", f"{quote}{quoted}{quote}".encode()),
                forge.STRING2(raw),
                forge.OP["BINSTRING"] + struct.pack("<i", len(raw)) + raw,
            ]
        return self.rng.choice(forms)

    def _escaped(self, char: str, form: str) -> str:
        return form % ord(char) if not char.isascii() or self.rng.random() < 0.2 else char

    def _put(self, index: int) -> bytes:
        forms = [forge.LINE("PUT", b"%d" % index), forge.RAW("LONG_BINPUT", struct.pack("<I", index))]
        if index < 256:
            forms.append(forge.PUT(index))
        if index == len(self.memo) and index not in self.memo:
            forms.append(forge.MEMOIZE)
        self.memo.add(index)
        return self.rng.choice(forms)

    def _get(self, index: int) -> bytes:
        forms = [forge.LINE("GET", b"%d" % index), forge.RAW("LONG_BINGET", struct.pack("<I", index))]
        return self.rng.choice([*forms, forge.GET(index)] if index < 256 else forms)

    def _decoy(self) -> list[bytes]:
        """Something that leaves the stack as it was."""
        return self.rng.choice(
            [
                [],
                [forge.TEXT("torch"), forge.POP],
                [forge.MARK, forge.POP],
                [forge.MARK, forge.TEXT("collections"), forge.TEXT("OrderedDict"), forge.POP_MARK],
                [forge.INT(7), forge.DUP, forge.POP, forge.POP],
                [forge.EMPTY_LIST, forge.POP],
            ]
        )

    def _global(self, module: str, attribute: str) -> list[bytes]:
        """The global on the stack."""
        if self.rng.random() < 0.3 and attribute.isascii() and "." not in attribute:
            return [forge.GLOBAL(module, attribute)]
        if self.rng.random() < 0.5:
            return [self._text(module), *self._decoy(), self._text(attribute), *self._decoy(), forge.STACK_GLOBAL]
        first, second = self.rng.sample([0, 1, 2, 3, 200, 255, 256, 70_000], 2)
        parts = [self._text("torch"), self._put(first), forge.POP] if self.rng.random() < 0.3 else []
        parts += [self._text(module), self._put(first), forge.POP, *self._decoy()]
        parts += [self._text(attribute), self._put(second), forge.POP, *self._decoy()]
        return [*parts, self._get(first), *self._decoy(), self._get(second), forge.STACK_GLOBAL]

    # ---- calls

    def _arguments(self) -> list[bytes]:
        """A tuple on the stack."""
        one = self._text("true")
        tuples = [
            [forge.EMPTY_TUPLE],
            [one, forge.TUPLE1],
            [one, forge.NONE, forge.TUPLE2],
            [forge.MARK, one, forge.INT(1), forge.NONE, forge.TUPLE],
        ]
        return self.rng.choice(tuples)

    def _call(self, module: str, attribute: str) -> list[bytes]:
        """The call; one value is left."""
        name = self._global(module, attribute)
        kind = self.rng.choice(["REDUCE", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST", "BUILD", "fill", "name"])
        if kind == "NEWOBJ_EX":
            return [*name, *self._arguments(), forge.EMPTY_DICT, forge.NEWOBJ_EX]
        if kind == "OBJ":
            return [forge.MARK, *name, self._text("true"), forge.OBJ]
        if kind == "INST" and attribute.isascii() and "." not in attribute:
            return [forge.MARK, self._text("true"), forge.INST(module, attribute)]
        if kind == "BUILD":
            return [*name, forge.EMPTY_DICT, forge.BUILD]
        if kind == "fill":
            return [*name, *self.rng.choice([[forge.NONE, forge.APPEND], [forge.TEXT("k"), forge.NONE, forge.SETITEM]])]
        if kind == "name":
            return name
        called = [*name, *self._arguments(), forge.NEWOBJ if kind == "NEWOBJ" else forge.REDUCE]
        return [*called, forge.EMPTY_DICT, forge.BUILD] if self.rng.random() < 0.2 else called

    # ---- around it

    def _around(self, call: list[bytes]) -> list[bytes]:
        """The call inside something; one value is left."""
        return self.rng.choice(
            [
                call,
                [*call, forge.POP, forge.NONE],
                [forge.NONE, forge.MARK, *call, forge.POP_MARK],
                [forge.EMPTY_LIST, *call, forge.APPEND],
                [forge.EMPTY_LIST, forge.MARK, forge.NONE, *call, forge.APPENDS],
                [forge.EMPTY_DICT, forge.TEXT("k"), *call, forge.SETITEM],
                [forge.MARK, *call, forge.TUPLE],
                [forge.MARK, *call, forge.FROZENSET],
                [*call, forge.TUPLE1, forge.TUPLE1],
                [*call, self._put(9), forge.POP, self._get(9)],
            ]
        )

    def _junk(self) -> list[bytes]:
        """Opcodes that do nothing, or leave a value or a mark behind."""
        if self.rng.random() < 0.5:
            return []
        kinds = [*[self._decoy()] * 4, [forge.NONE], [forge.MARK], [forge.LINE("INT", b"0x10")], [forge.LINE("INT", b"12"), forge.POP]]
        return [part for _ in range(self.rng.randint(1, 4)) for part in self.rng.choice(kinds)]

    def _ending(self) -> list[bytes]:
        """STOP most of the time."""
        return self.rng.choice([*[[forge.STOP]] * 6, [b"\xff"], [forge.GET(77), forge.STOP], [], [forge.PROTO(2), forge.STOP]])

    def _framed(self, parts: list[bytes]) -> bytes:
        if self.protocol < 4 or self.rng.random() < 0.4:
            return b"".join(parts)
        if self.rng.random() < 0.3:
            body = b"".join(parts)
            return forge.FRAME(max(0, len(body) + self.rng.choice([-3, -1, 1, 5, 1 << 31]))) + body
        cuts = sorted(self.rng.sample(range(len(parts) + 1), min(len(parts), self.rng.randint(0, 3))))
        pieces = [b"".join(parts[a:b]) for a, b in zip([0, *cuts], [*cuts, len(parts)], strict=True)]
        return b"".join(forge.FRAME(len(piece)) + piece if piece and self.rng.random() < 0.8 else piece for piece in pieces)

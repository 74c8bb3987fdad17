"""Forge pickle streams, opcode by opcode. Nothing here is ever unpickled.

    stream(PROTO(4), TEXT("os"), TEXT("system"), STACK_GLOBAL, TEXT("true"), TUPLE1, REDUCE, STOP)

Every name is an opcode's bytes, or a function that packs its operand as it is told: lengths may be forged.
"""

from __future__ import annotations

import random
import struct

from safeload.walk.opcodes import OPCODES

OP = {name: bytes([code]) for code, (name, _, _) in OPCODES.items()}

MARK, STOP, POP, POP_MARK, DUP, NONE, REDUCE, BUILD = (
    OP[name] for name in ("MARK", "STOP", "POP", "POP_MARK", "DUP", "NONE", "REDUCE", "BUILD")
)
APPEND, APPENDS, SETITEM, SETITEMS, ADDITEMS = (OP[name] for name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"))
EMPTY_LIST, EMPTY_DICT, EMPTY_TUPLE, EMPTY_SET = (OP[name] for name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE", "EMPTY_SET"))
LIST, DICT, TUPLE, FROZENSET, OBJ = (OP[name] for name in ("LIST", "DICT", "TUPLE", "FROZENSET", "OBJ"))
TUPLE1, TUPLE2, TUPLE3, NEWTRUE, NEWFALSE = (OP[name] for name in ("TUPLE1", "TUPLE2", "TUPLE3", "NEWTRUE", "NEWFALSE"))
NEWOBJ, NEWOBJ_EX, STACK_GLOBAL, MEMOIZE, BINPERSID = (
    OP[name] for name in ("NEWOBJ", "NEWOBJ_EX", "STACK_GLOBAL", "MEMOIZE", "BINPERSID")
)


def stream(*parts: bytes) -> bytes:
    """Put opcodes together."""
    return b"".join(parts)


def PROTO(version: int) -> bytes:
    return OP["PROTO"] + bytes([version])


def TEXT(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    return OP["SHORT_BINUNICODE"] + bytes([len(raw)]) + raw if len(raw) < 256 else OP["BINUNICODE"] + struct.pack("<I", len(raw)) + raw


def STRING2(text: bytes) -> bytes:
    """A Python 2 string."""
    return OP["SHORT_BINSTRING"] + bytes([len(text)]) + text


def BYTES(data: bytes) -> bytes:
    return OP["BINBYTES"] + struct.pack("<I", len(data)) + data


def INT(number: int) -> bytes:
    if 0 <= number < 256:
        return OP["BININT1"] + bytes([number])
    if -(1 << 31) <= number < 1 << 31:
        return OP["BININT"] + struct.pack("<i", number)
    raw = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return OP["LONG1"] + bytes([len(raw)]) + raw


def FLOAT(number: float) -> bytes:
    return OP["BINFLOAT"] + struct.pack(">d", number)


def GLOBAL(module: str, name: str) -> bytes:
    return OP["GLOBAL"] + f"{module}\n{name}\n".encode()


def INST(module: str, name: str) -> bytes:
    return OP["INST"] + f"{module}\n{name}\n".encode()


def LINE(name: str, text: bytes) -> bytes:
    """An opcode with a text operand, as it is given."""
    return OP[name] + text + b"\n"


def PUT(index: int) -> bytes:
    return OP["BINPUT"] + bytes([index])


def GET(index: int) -> bytes:
    return OP["BINGET"] + bytes([index])


def RAW(name: str, operand: bytes) -> bytes:
    """An opcode with whatever operand."""
    return OP[name] + operand


def LENGTH(name: str, length: int, data: bytes, width: int = 4) -> bytes:
    """An opcode whose declared length need not be true."""
    return OP[name] + length.to_bytes(width, "little") + data


def FRAME(length: int) -> bytes:
    return OP["FRAME"] + struct.pack("<Q", length)


def call(module: str, name: str, *args: bytes) -> bytes:
    """REDUCE of a global with constant arguments."""
    return stream(GLOBAL(module, name), MARK, *args, TUPLE, REDUCE)


# ---- random streams, for the differential and property tests

_INTERESTING = [
    TEXT("os"), TEXT("system"), TEXT("_metadata"), TEXT("builtins"), TEXT("eval"), TEXT("é\ud800"), TEXT("x" * 300), BYTES(b"ab"),
    INT(0), INT(255), INT(-1), INT(1 << 40), INT(1 << 80), FLOAT(1.5), NONE, NEWTRUE, NEWFALSE, EMPTY_LIST, EMPTY_DICT, EMPTY_SET,
    EMPTY_TUPLE, GLOBAL("os", "system"), GLOBAL("collections", "OrderedDict"), GLOBAL("builtins", "set"), GLOBAL("__builtin__", "eval"),
    GLOBAL("torch", "FloatStorage"), GLOBAL("_codecs", "encode"), GLOBAL("builtins", "bytearray"), GLOBAL("a.b", "C"),
    GLOBAL("collections", "defaultdict"), GLOBAL("collections", "deque"), GLOBAL("uuid", "UUID"), GLOBAL("builtins", "list"),
    GLOBAL("builtins", "getattr"), call("builtins", "getattr", GLOBAL("a.b", "C"), TEXT("D")),
    LINE("INT", b"12"), LINE("INT", b"01"), LINE("INT", b"0x10"), LINE("INT", b"1_0"), LINE("LONG", b"7L"),
    LINE("LONG", b"99999999999999999999L"),
    LINE("FLOAT", b"1.25"), LINE("FLOAT", b"nan"), LINE("FLOAT", b"1_0"), LINE("STRING", b"'a\\x41\\n'"), LINE("STRING", b'"q"'),
    LINE("UNICODE", b"\\u00e9"), LINE("GET", b"0"), LINE("PUT", b"1"), LINE("PUT", b"007"), LINE("PERSID", b"9"), STRING2(b"latin1"),
    STRING2(b"\xff"), RAW("LONG4", struct.pack("<i", 2) + b"\x01\x02"), RAW("LONG4", struct.pack("<i", -2)), RAW("LONG1", b"\x00"),
    RAW("BYTEARRAY8", struct.pack("<Q", 2) + b"ab"), RAW("BINUNICODE8", struct.pack("<Q", 1) + b"z"),
    RAW("BINBYTES8", struct.pack("<Q", 0)),
    RAW("BINSTRING", struct.pack("<i", 1) + b"s"), RAW("BININT2", b"\x01\x02"), RAW("EXT1", b"\x05"), RAW("EXT4", b"\x05\0\0\0"),
    RAW("LONG_BINPUT", b"\x02\0\0\0"), RAW("LONG_BINGET", b"\x02\0\0\0"), RAW("LONG_BINPUT", b"\0\0\0\x80"),
    RAW("BINUNICODE", b"\xff\xff\xff\xff"), RAW("SHORT_BINBYTES", b"\x01q"), FRAME(3), FRAME(1 << 63), PROTO(2), PROTO(4), PROTO(9),
    inst := INST("os", "system"), RAW("NEXT_BUFFER", b""), RAW("READONLY_BUFFER", b""),
]  # fmt: skip
_ACTIONS = [
    MARK, POP, POP_MARK, DUP, REDUCE, BUILD, APPEND, APPENDS, SETITEM, SETITEMS, ADDITEMS, LIST, DICT, TUPLE, FROZENSET, OBJ, TUPLE1,
    TUPLE2, TUPLE3, NEWOBJ, NEWOBJ_EX, STACK_GLOBAL, MEMOIZE, BINPERSID, inst, PUT(0), PUT(3), GET(0), GET(3), STOP,
]  # fmt: skip


# name of an action: (values it needs, values it leaves), for those that do not touch a MARK
_EFFECTS = {
    "REDUCE": (2, 1), "BUILD": (2, 1), "APPEND": (2, 1), "SETITEM": (3, 1), "TUPLE1": (1, 1), "TUPLE2": (2, 1), "TUPLE3": (3, 1),
    "NEWOBJ": (2, 1), "NEWOBJ_EX": (3, 1), "STACK_GLOBAL": (2, 1), "POP": (1, 0), "DUP": (1, 2), "BINPERSID": (1, 1), "MEMOIZE": (1, 1),
}  # fmt: skip
# …and those that take all above a MARK: (values below it that they need, values left)
_CLOSERS = {"LIST": (0, 1), "DICT": (0, 1), "TUPLE": (0, 1), "FROZENSET": (0, 1), "APPENDS": (1, 0), "SETITEMS": (1, 0),
            "ADDITEMS": (1, 0), "POP_MARK": (0, 0), "OBJ": (0, 1)}  # fmt: skip
_SOUND = [part for part in _INTERESTING if part[0] not in b"\x95\x97\x98\x80gphjqrPi"]


def random_stream(rng: random.Random, longest: int = 40) -> bytes:
    """A stream that keeps its stack in order most of the time; sometimes with bytes changed afterwards."""
    parts = [PROTO(rng.choice([0, 1, 2, 3, 4, 5]))] if rng.random() < 0.8 else []
    depths, stored = [0], False
    for _ in range(rng.randint(1, longest)):
        roll = rng.random()
        if roll < 0.5 or (depths[-1] == 0 and len(depths) == 1):
            parts.append(rng.choice(_SOUND if rng.random() < 0.97 else _INTERESTING))
            depths[-1] += 1
        elif roll < 0.6:
            parts.append(MARK)
            depths.append(0)
        elif roll < 0.7 and depths[-1]:
            parts.append(rng.choice([PUT(0), GET(0)]) if stored else PUT(0))
            depths[-1] += parts[-1] == GET(0)
            stored = True
        elif roll < 0.85 and len(depths) > 1:
            name = rng.choice(list(_CLOSERS))
            need, left = _CLOSERS[name]
            if depths[-2] >= need:
                if name in ("DICT", "SETITEMS") and depths[-1] % 2:
                    parts.append(NONE)
                depths.pop()
                depths[-1] += left
                parts.append(OP[name])
        else:
            name = rng.choice(list(_EFFECTS))
            need, left = _EFFECTS[name]
            if depths[-1] >= need:
                depths[-1] += left - need
                parts.append(OP[name])
    parts += [OP["TUPLE"]] * (len(depths) - 1) + [STOP]
    data = stream(*parts)
    return mutate(rng, data) if rng.random() < 0.4 else data


def mutate(rng: random.Random, data: bytes, most: int = 4) -> bytes:
    """Flip, cut, double, insert: a few random changes."""
    out = bytearray(data)
    for _ in range(rng.randint(1, most)):
        if not out:
            return bytes(out)
        at = rng.randrange(len(out))
        kind = rng.randrange(6)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)])
        elif kind == 2:
            del out[at : at + rng.randint(1, 8)]
        elif kind == 3:
            out[at:at] = out[at : at + rng.randint(1, 16)]
        elif kind == 4:
            out[at:at] = rng.choice(_INTERESTING + _ACTIONS)
        else:
            del out[at:]
    return bytes(out)

"""The 68 opcodes of pickle protocols 0 to 5, as data. Source: PEP 3154, PEP 574 and CPython's Modules/_pickle.c."""

from __future__ import annotations

from typing import Final

# code: (name, protocol that introduced it, operand form)
OPCODES: Final[dict[int, tuple[str, int, str]]] = {
    0x28: ("MARK", 0, ""), 0x2E: ("STOP", 0, ""), 0x30: ("POP", 0, ""), 0x31: ("POP_MARK", 1, ""), 0x32: ("DUP", 0, ""),
    0x46: ("FLOAT", 0, "line"), 0x49: ("INT", 0, "line"), 0x4A: ("BININT", 1, "i4"), 0x4B: ("BININT1", 1, "u1"),
    0x4C: ("LONG", 0, "line"), 0x4D: ("BININT2", 1, "u2"), 0x4E: ("NONE", 0, ""), 0x50: ("PERSID", 0, "line"),
    0x51: ("BINPERSID", 1, ""), 0x52: ("REDUCE", 0, ""), 0x53: ("STRING", 0, "line"), 0x54: ("BINSTRING", 1, "bytes4"),
    0x55: ("SHORT_BINSTRING", 1, "bytes1"), 0x56: ("UNICODE", 0, "line"), 0x58: ("BINUNICODE", 1, "bytes4"),
    0x61: ("APPEND", 0, ""), 0x62: ("BUILD", 0, ""), 0x63: ("GLOBAL", 0, "line2"), 0x64: ("DICT", 0, ""),
    0x7D: ("EMPTY_DICT", 1, ""), 0x65: ("APPENDS", 1, ""), 0x67: ("GET", 0, "line"), 0x68: ("BINGET", 1, "u1"),
    0x69: ("INST", 0, "line2"), 0x6A: ("LONG_BINGET", 1, "u4"), 0x6C: ("LIST", 0, ""), 0x5D: ("EMPTY_LIST", 1, ""),
    0x6F: ("OBJ", 1, ""), 0x70: ("PUT", 0, "line"), 0x71: ("BINPUT", 1, "u1"), 0x72: ("LONG_BINPUT", 1, "u4"),
    0x73: ("SETITEM", 0, ""), 0x74: ("TUPLE", 0, ""), 0x29: ("EMPTY_TUPLE", 1, ""), 0x75: ("SETITEMS", 1, ""),
    0x47: ("BINFLOAT", 1, "f8"),
    0x80: ("PROTO", 2, "u1"), 0x81: ("NEWOBJ", 2, ""), 0x82: ("EXT1", 2, "u1"), 0x83: ("EXT2", 2, "u2"), 0x84: ("EXT4", 2, "i4"),
    0x85: ("TUPLE1", 2, ""), 0x86: ("TUPLE2", 2, ""), 0x87: ("TUPLE3", 2, ""), 0x88: ("NEWTRUE", 2, ""),
    0x89: ("NEWFALSE", 2, ""), 0x8A: ("LONG1", 2, "bytes1"), 0x8B: ("LONG4", 2, "bytes4"),
    0x42: ("BINBYTES", 3, "bytes4"), 0x43: ("SHORT_BINBYTES", 3, "bytes1"),
    0x8C: ("SHORT_BINUNICODE", 4, "bytes1"), 0x8D: ("BINUNICODE8", 4, "bytes8"), 0x8E: ("BINBYTES8", 4, "bytes8"),
    0x8F: ("EMPTY_SET", 4, ""), 0x90: ("ADDITEMS", 4, ""), 0x91: ("FROZENSET", 4, ""), 0x92: ("NEWOBJ_EX", 4, ""),
    0x93: ("STACK_GLOBAL", 4, ""), 0x94: ("MEMOIZE", 4, ""), 0x95: ("FRAME", 4, "u8"),
    0x96: ("BYTEARRAY8", 5, "bytes8"), 0x97: ("NEXT_BUFFER", 5, ""), 0x98: ("READONLY_BUFFER", 5, ""),
}  # fmt: skip

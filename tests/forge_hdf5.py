"""A small HDF5 writer for tests: groups, datasets, attributes, links, and whatever the library would not write.

Two styles: the older one (superblock 0, object headers 1, no checksums) and the newer one (superblock 2, headers 2, sealed). Both
write links as messages, which the library reads in either. h5py opens what it writes, see tests/unit/test_hdf5_witness.py.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from safeload.formats.hdf5.space import checksum

__all__ = [
    "Dataset",
    "External",
    "Group",
    "Message",
    "Node",
    "Soft",
    "Virtual",
    "fixed",
    "hdf5",
    "opaque",
    "reference",
    "text",
    "variable",
    "vlen_bytes",
]

UNDEFINED = (1 << 64) - 1
SIGNATURE = b"\x89HDF\r\n\x1a\n"

FLOAT32 = bytes([0x11, 0x20, 31, 0]) + struct.pack("<IHHBBBBI", 4, 0, 32, 23, 8, 0, 23, 127)
INT64 = bytes([0x10, 8, 0, 0]) + struct.pack("<IHH", 8, 0, 64)
UINT8 = bytes([0x10, 0, 0, 0]) + struct.pack("<IHH", 1, 0, 8)


def fixed(size: int) -> bytes:
    """The datatype of a text of `size` bytes, padded with NULs."""
    return bytes([0x13, 0, 0, 0]) + struct.pack("<I", size)


def opaque(size: int) -> bytes:
    """The datatype of `size` opaque bytes."""
    return bytes([0x15, 0, 0, 0]) + struct.pack("<I", size)


def variable() -> bytes:
    """The datatype of a text of variable length."""
    return bytes([0x19, 1, 1, 0]) + struct.pack("<I", 16) + fixed(1)


def vlen_bytes() -> bytes:
    """The datatype of a row of bytes of variable length."""
    return bytes([0x19, 0, 0, 0]) + struct.pack("<I", 16) + UINT8


def reference() -> bytes:
    """The datatype of an object reference."""
    return bytes([0x17, 0, 0, 0]) + struct.pack("<I", 8)


@dataclass
class Message:
    """A message that is written as it is: its type and its bytes."""

    kind: int
    data: bytes
    flags: int = 0


@dataclass
class Soft:
    """A soft link."""

    target: str


@dataclass
class External:
    """A link into another file."""

    file: str
    target: str


@dataclass
class Virtual:
    """Where a virtual dataset comes from."""

    file: str
    target: str


@dataclass
class Dataset:
    """A dataset. `data` are its bytes, or of variable length its values; `None`: nothing was written.

    `refers` are objects to which its elements are references, and no link leads. `files` are names of external storage; `claims`
    is what the layout says of its size, where that differs.
    """

    kind: bytes = FLOAT32
    shape: tuple[int, ...] = ()
    data: bytes | list[bytes] | None = b""
    attrs: Mapping[str, object] = field(default_factory=dict)
    refers: tuple[Node, ...] = ()
    files: tuple[str, ...] = ()
    virtual: Virtual | None = None
    filters: tuple[int, ...] = ()
    chunk: tuple[int, ...] = ()
    compact: bool = False
    claims: int | None = None
    extra: tuple[Message, ...] = ()


@dataclass
class Group:
    """A group: names and what they lead to; an integer is an address, a `Message` stands in the header as it is."""

    links: Mapping[str, object] = field(default_factory=dict)
    attrs: Mapping[str, object] = field(default_factory=dict)
    extra: tuple[Message, ...] = ()


Node = Group | Dataset


def text(value: str | bytes) -> tuple[bytes, tuple[int, ...], bytes]:
    """An attribute's datatype, shape and bytes: one text of fixed length."""
    raw = value.encode() if isinstance(value, str) else value
    return fixed(len(raw)), (), raw


class _Writer:
    def __init__(self, *, newer: bool, base: int) -> None:
        self.newer, self.base = newer, base
        self.out = bytearray(48 if newer else 96)

    def put(self, data: bytes) -> int:
        """Append, and return the address."""
        self.out += bytes(-len(self.out) % 8)
        at = len(self.out)
        self.out += data
        return at

    def header(self, messages: list[Message]) -> int:
        if self.newer:
            body = b"".join(struct.pack("<BHB", item.kind, len(item.data), item.flags) + item.data for item in messages)
            block = b"OHDR\x02\x02" + struct.pack("<I", len(body)) + body
            return self.put(block + struct.pack("<I", checksum(block)))
        body = b""
        for item in messages:
            data = item.data + bytes(-len(item.data) % 8)
            body += struct.pack("<HHB3x", item.kind, len(data), item.flags) + data
        return self.put(struct.pack("<BxHII4x", 1, len(messages), 1, len(body)) + body)

    def heap(self, values: list[bytes]) -> list[bytes]:
        """Write a global heap; return what stands for each value where it belongs."""
        body = b""
        for number, value in enumerate(values, 1):
            body += struct.pack("<HH4xQ", number, 1, len(value)) + value + bytes(-len(value) % 8)
        size = max(4096, 16 + len(body) + 16)
        rest = size - 16 - len(body)
        body += struct.pack("<HH4xQ", 0, 0, rest) + bytes(rest - 16)
        at = self.put(b"GCOL\x01\0\0\0" + struct.pack("<Q", size) + body)
        return [struct.pack("<QI", at, number) for number in range(1, len(values) + 1)]

    def local_heap(self, data: bytes) -> int:
        data += bytes(-len(data) % 8)
        where = self.put(data)
        return self.put(b"HEAP\0\0\0\0" + struct.pack("<QQQ", len(data), 1, where))

    def attribute(self, name: str, value: object) -> Message:
        if isinstance(value, str):  # as h5py writes texts: of variable length, in the global heap
            raw = value.encode()
            shape: tuple[int, ...] = ()
            kind, data = variable(), struct.pack("<I", len(raw)) + self.heap([raw])[0]
        elif isinstance(value, bytes):
            kind, shape, data = text(value)
        else:
            assert isinstance(value, tuple)
            kind, shape, data = value
        raw = name.encode() + b"\0"
        space = _dataspace(shape)
        return Message(0x0C, struct.pack("<BBHHHB", 3, 0, len(raw), len(kind), len(space), 1) + raw + kind + space + data)

    def node(self, node: object) -> int:
        if isinstance(node, Group):
            return self.group(node)
        assert isinstance(node, Dataset)
        return self.dataset(node)

    def group(self, group: Group) -> int:
        messages = [Message(0x02, struct.pack("<BBQQ", 0, 0, UNDEFINED, UNDEFINED)), Message(0x0A, b"\0\0")]
        for name, target in group.links.items():
            raw = name.encode()
            front = bytes([1, 0x18]) if isinstance(target, (Soft, External)) else bytes([1, 0x10])
            if isinstance(target, Soft):
                rest = struct.pack("<H", len(target.target)) + target.target.encode()
                messages.append(Message(0x06, front + bytes([1, 1, len(raw)]) + raw + rest))
            elif isinstance(target, External):
                value = b"\0" + target.file.encode() + b"\0" + target.target.encode() + b"\0"
                messages.append(Message(0x06, front + bytes([64, 1, len(raw)]) + raw + struct.pack("<H", len(value)) + value))
            else:
                at = target if isinstance(target, int) else self.node(target)
                messages.append(Message(0x06, front + bytes([1, len(raw)]) + raw + struct.pack("<Q", at)))
        messages += [self.attribute(name, value) for name, value in group.attrs.items()]
        return self.header([*messages, *group.extra])

    def dataset(self, dataset: Dataset) -> int:
        data = dataset.data
        if dataset.refers:
            data = b"".join(struct.pack("<Q", self.node(node)) for node in dataset.refers)
        if isinstance(data, list):
            sizes = [len(value) for value in data]
            data = b"".join(struct.pack("<I", size) + place for size, place in zip(sizes, self.heap(data), strict=True))
        messages = [Message(0x01, _dataspace(dataset.shape)), Message(0x03, dataset.kind), Message(0x05, bytes([3, 10]))]
        if dataset.files:
            names = b"\0" * 8
            entries = b""
            for name in dataset.files:
                entries += struct.pack("<QQQ", len(names), 0, UNDEFINED)
                names += name.encode() + b"\0"
            place = struct.pack("<B3xHHQ", 1, len(dataset.files), len(dataset.files), self.local_heap(names))
            messages.append(Message(0x07, place + entries))
            messages.append(Message(0x08, struct.pack("<BBQQ", 3, 1, UNDEFINED, dataset.claims or 0)))
        elif dataset.virtual is not None:
            every = struct.pack("<II4xI", 3, 1, 0)
            entry = dataset.virtual.file.encode() + b"\0" + dataset.virtual.target.encode() + b"\0" + every + every
            body = b"\0" + struct.pack("<Q", 1) + entry
            messages.append(Message(0x08, bytes([4, 3]) + self.heap([body + struct.pack("<I", checksum(body))])[0]))
        elif dataset.chunk:
            at = UNDEFINED if data is None else self.chunk(dataset, data)
            widths = b"".join(struct.pack("<I", size) for size in (*dataset.chunk, struct.unpack("<I", dataset.kind[4:8])[0]))
            messages.append(Message(0x08, struct.pack("<BBBQ", 3, 2, len(dataset.chunk) + 1, at) + widths))
        elif dataset.compact:
            messages.append(Message(0x08, bytes([3, 0]) + struct.pack("<H", len(data or b"")) + (data or b"")))
        else:
            at = UNDEFINED if data is None else self.put(data)
            size = len(data or b"") if dataset.claims is None else dataset.claims
            messages.append(Message(0x08, struct.pack("<BBQQ", 3, 1, at, size)))
        if dataset.filters:
            steps = b"".join(struct.pack("<HHH", number, 0, 0) + bytes(2 * (number >= 256)) for number in dataset.filters)
            messages.append(Message(0x0B, bytes([2, len(dataset.filters)]) + steps))
        messages += [self.attribute(name, value) for name, value in dataset.attrs.items()]
        return self.header([*messages, *dataset.extra])

    def chunk(self, dataset: Dataset, data: bytes) -> int:
        """One chunk, and the B-tree that leads to it."""
        at = self.put(data)
        zeros = bytes(8 * (len(dataset.chunk) + 1))
        key = struct.pack("<II", len(data), 0) + zeros
        end = struct.pack("<II", 0, 0) + b"".join(struct.pack("<Q", size) for size in (*dataset.chunk, 0))
        return self.put(b"TREE\x01\0" + struct.pack("<HQQ", 1, UNDEFINED, UNDEFINED) + key + struct.pack("<Q", at) + end + bytes(4096))


def _dataspace(shape: tuple[int, ...]) -> bytes:
    return struct.pack("<BBBB", 2, len(shape), 0, 1 if shape else 0) + b"".join(struct.pack("<Q", size) for size in shape)


def hdf5(root: Group | None = None, *, newer: bool = False, user_block: bytes = b"", behind: bytes = b"") -> bytes:
    """Write a file.

    Args:
        root: The root group.
        newer: In the newer style.
        user_block: What stands in front; padded to 512, 1024, … bytes.
        behind: What stands behind the end that the file names.
    """
    base = 0
    if user_block:
        base = 512
        while base < len(user_block):
            base *= 2
    writer = _Writer(newer=newer, base=base)
    at = writer.group(root or Group())
    end = base + len(writer.out)
    if newer:
        head = SIGNATURE + bytes([2, 8, 8, 0]) + struct.pack("<QQQQ", base, UNDEFINED, end, at)
        writer.out[:48] = head + struct.pack("<I", checksum(head))
    else:
        head = SIGNATURE + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + struct.pack("<HHI", 4, 16, 0)
        writer.out[:96] = head + struct.pack("<QQQQ", base, UNDEFINED, end, UNDEFINED) + struct.pack("<QQII16x", 0, at, 0, 0)
    return user_block.ljust(base, b"\0") + bytes(writer.out) + behind

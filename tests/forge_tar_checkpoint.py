"""Forges torch's tar checkpoints (before 0.1.10) opcode by opcode, right or wrong in any place."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


def class_named(name: str) -> bytes:
    """GLOBAL."""
    module, _, attribute = name.rpartition(".")
    return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"


def value(item: object) -> bytes:
    """The opcodes of plain data, without PROTO and STOP; text without its memo entry."""
    if isinstance(item, str):
        raw = item.encode()
        return b"X" + struct.pack("<I", len(raw)) + raw
    return pickle.dumps(item, 2)[2:-1]


def header(*parts: bytes) -> bytes:
    """A stream that is one tuple."""
    return b"\x80\x02(" + b"".join(parts) + b"t."


@dataclass
class Storage:
    """One storage: `data` follows a count of `numel` elements, by default what the bytes hold."""

    key: object
    data: bytes = b""
    kind: str = "torch.FloatStorage"
    location: str = "cpu"
    size: int = 4
    numel: int | None = None

    def written(self) -> bytes:
        numel = len(self.data) // self.size if self.numel is None else self.numel
        return header(value(self.key), value(self.location), class_named(self.kind)) + struct.pack("<q", numel) + self.data


@dataclass
class Tensor:
    """One tensor."""

    key: object
    storage: object
    shape: Sequence[int] = ()
    stride: Sequence[int] = ()
    offset: int = 0
    kind: str = "torch.FloatTensor"
    dimensions: int | None = None

    def written(self) -> bytes:
        count = len(self.shape) if self.dimensions is None else self.dimensions
        numbers = [*self.shape, *self.stride, self.offset]
        head = header(value(self.key), value(self.storage), class_named(self.kind))
        return head + struct.pack("<ii", count, 0) + struct.pack(f"<{len(numbers)}q", *numbers)


def referring(names: Mapping[str, object]) -> bytes:
    """An object stream: a dict of names to persistent ids."""
    body = b"".join(value(name) + value(key) + b"Q" for name, key in names.items())
    return b"\x80\x02}(" + body + b"u."


@dataclass
class TarCheckpoint:
    """A whole file; `members` replaces, adds or (None) leaves out members."""

    storages: Sequence[Storage] = ()
    tensors: Sequence[Tensor] = ()
    views: object = field(default_factory=list)
    main: bytes = b"\x80\x02}."
    members: Mapping[str, bytes | None] = field(default_factory=dict)

    def parts(self) -> dict[str, bytes]:
        """The members by name, in torch's order."""
        info = {"protocol_version": 1000, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
        made: dict[str, bytes | None] = {
            "sys_info": pickle.dumps(info, 2),
            "pickle": self.main,
            "tensors": pickle.dumps(len(self.tensors), 2) + b"".join(tensor.written() for tensor in self.tensors),
            "storages": pickle.dumps(len(self.storages), 2)
            + b"".join(storage.written() for storage in self.storages)
            + pickle.dumps(self.views, 2),
        }
        made.update(self.members)
        return {name: data for name, data in made.items() if data is not None}

    def file(self) -> bytes:
        """The bytes."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT) as archive:
            for name, data in self.parts().items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return out.getvalue()


def example() -> TarCheckpoint:
    """Two tensors that share a storage, one on a view of it, one transposed, one storage by itself."""
    return TarCheckpoint(
        storages=[
            Storage(100, struct.pack("<6f", *range(6))),
            Storage(200, struct.pack("<3q", 7, 8, 9), "torch.LongStorage", size=8),
            Storage(250, b"\0\1", "torch.ByteStorage", size=1),
        ],
        views=[(300, 100, 2, 4)],
        tensors=[
            Tensor(1, 100, (2, 3), (3, 1)),
            Tensor(2, 100, (3, 2), (1, 3)),
            Tensor(3, 300, (2,), (2,), 1),
            Tensor(4, 200, (3,), (1,), kind="torch.LongTensor"),
        ],
        main=referring({"a": "1", "a.t": "2", "a.part": "3", "b": 4, "again": "1", "raw": "250"}),
    )

r"""Digests: `sha256`, which the world publishes, and `sha256-tree`, which cores can share and a lazy reader can check in part.

The tree digest of a file of `size` bytes is SHA-256 over

```
b"safeload sha256-tree v1\n" | leaf size, u64 LE | size, u64 LE | SHA-256 of leaf 0 | SHA-256 of leaf 1 | …
```

Leaves are 4 MiB, the last one is whatever remains; an empty file has none. `docs/lockfile.md` holds test vectors.
The size is part of what is hashed, so no list of leaves can stand for two files, and the tag keeps a tree digest
from ever being the SHA-256 of a file that somebody forged to look like a list of leaves.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, Self

from safeload.errors import UsageError
from safeload.findings import escape
from safeload.lean_dataclass import dataclass

if TYPE_CHECKING:
    from safeload.source import Source

__all__ = ["LEAF_BYTES", "TREE_TAG", "Digest", "TreeHasher", "leaf_count", "leaf_digest", "root_of_leaves", "tree_digest"]

LEAF_BYTES: Final = 4 << 20
TREE_TAG: Final = b"safeload sha256-tree v1\n"

_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ALGORITHMS: Final = ("sha256", "sha256-tree")
_LEAF_DIGEST_BYTES: Final = 32

Algorithm = Literal["sha256", "sha256-tree"]
Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """Algorithm and value together, printed `sha256:hex`.

    Attributes:
        algorithm: "sha256" or "sha256-tree".
        hex: 64 lower-case hex digits.

    Raises:
        UsageError: the algorithm is unknown, or the value is not 64 lower-case hex digits.
    """

    algorithm: Algorithm
    hex: str

    def __post_init__(self) -> None:
        if self.algorithm not in _ALGORITHMS:
            raise UsageError(f"unknown digest algorithm '{escape(str(self.algorithm), 40)}': {' or '.join(_ALGORITHMS)}")
        if not _HEX.fullmatch(self.hex):
            raise UsageError(f"a {self.algorithm} digest is 64 lower-case hex digits, not '{escape(self.hex, 80)}'")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `algorithm:hex`.

        Raises:
            UsageError: the text has another form.
        """
        algorithm, colon, value = text.partition(":")
        if not colon:
            raise UsageError(f"a digest is written algorithm:hex, not '{escape(text, 80)}'")
        return cls(algorithm, value)  # type: ignore[arg-type]  # checked in __post_init__

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @property
    def short(self) -> str:
        """`sha256:` and the first 12 digits: for tables, never for a comparison."""
        return f"{self.algorithm}:{self.hex[:12]}"


def leaf_count(size: int) -> int:
    """Return how many leaves a file of `size` bytes has."""
    return -(-size // LEAF_BYTES)


def leaf_digest(leaf: Bytes) -> bytes:
    """Return the 32 bytes of one leaf's SHA-256. The one step that threads may take apart from each other."""
    return hashlib.sha256(leaf).digest()


def root_of_leaves(size: int, leaves: Sequence[bytes]) -> str:
    """Return the `sha256-tree` of a file from the digests of its leaves, as 64 lower-case hex digits.

    Args:
        size: Bytes of the file.
        leaves: The 32-byte SHA-256 of each leaf, in file order.

    Raises:
        UsageError: a file of this size has another number of leaves, or a digest is not 32 bytes long.
    """
    if size < 0 or len(leaves) != leaf_count(size):
        raise UsageError(f"{len(leaves)} leaf digests for a file of {size} bytes, which has {leaf_count(max(size, 0))} leaves")
    root = _root(size)
    for leaf in leaves:
        # Without this check two lists of leaves could be cut differently out of the same bytes.
        if len(leaf) != _LEAF_DIGEST_BYTES:
            raise UsageError(f"a leaf digest has {len(leaf)} bytes, not {_LEAF_DIGEST_BYTES}")
        root.update(leaf)
    return root.hexdigest()


def _root(size: int) -> hashlib._Hash:
    return hashlib.sha256(TREE_TAG + struct.pack("<QQ", LEAF_BYTES, size))


class TreeHasher:
    """Take the `sha256-tree` of bytes as they come, like an object from `hashlib`."""

    __slots__ = ("_filled", "_leaf", "_leaves", "size")

    name: Final = "sha256-tree"
    digest_size: Final = 32

    def __init__(self) -> None:
        self.size = 0
        self._leaves: list[bytes] = []
        self._leaf = hashlib.sha256()
        self._filled = 0

    def update(self, data: Bytes) -> None:
        """Go on with `data`, of any length and any item type."""
        view = memoryview(data).cast("B")
        self.size += len(view)
        while view:
            part = view[: LEAF_BYTES - self._filled]
            self._leaf.update(part)
            self._filled += len(part)
            view = view[len(part) :]
            if self._filled == LEAF_BYTES:
                self._leaves.append(self._leaf.digest())
                self._leaf = hashlib.sha256()
                self._filled = 0

    @property
    def leaves(self) -> list[bytes]:
        """The 32-byte digest of each leaf so far, an unfinished last one included."""
        return [*self._leaves, self._leaf.digest()] if self._filled else list(self._leaves)

    def digest(self) -> bytes:
        """Return the 32 bytes of the tree digest of what came so far."""
        return bytes.fromhex(self.hexdigest())

    def hexdigest(self) -> str:
        """Return the tree digest of what came so far, as 64 lower-case hex digits."""
        return root_of_leaves(self.size, self.leaves)


def tree_digest(source: Source) -> str:
    """Return the `sha256-tree` of the whole snapshot, its leaves hashed on several cores.

    Raises:
        MalformedError: the file shrank while it was read.
    """
    return root_of_leaves(source.size, source.leaves(LEAF_BYTES))

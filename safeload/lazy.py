"""`safeload.open`: tensors one at a time, verified leaf by leaf as they are touched."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from safeload.context import Context
from safeload.errors import MalformedError, PinError, UsageError
from safeload.findings import escape
from safeload.program import Region, TensorSpec
from safeload.reporting import examine
from safeload.source import Source

if TYPE_CHECKING:
    from safeload.lockfile import Pin

__all__ = ["LazyFile", "open"]


class LazyFile:
    """An open model file. Made by `safeload.open`.

    A tensor's bytes are read when it is asked for. When the file is pinned, its list of leaf digests is taken in one pass
    at the first touch and checked against the pin; from then on every leaf that a tensor touches is read into memory,
    compared with the list, and used from there, so that a change to the file after the pass is seen.
    """

    def __init__(self, source: Source, table: dict[str, TensorSpec], metadata: dict[str, str], pin: Pin | None) -> None:
        self._source = source
        self._table = table
        self._metadata = metadata
        self._pin = pin
        self._leaves: list[bytes] | None = None

    def keys(self) -> list[str]:
        """Names of all tensors, in file order."""
        return list(self._table)

    def metadata(self) -> dict[str, str]:
        """The file's own small facts."""
        return dict(self._metadata)

    def get_tensor(self, name: str) -> Any:
        """Return one tensor, verified.

        Raises:
            UsageError: there is no tensor of this name.
            PinError: a leaf that it touches is not the pinned one.
            MalformedError: it does not lie in the file as it says.
        """
        from safeload.build.lazily import tensor_of

        spec = self._spec(name)
        return tensor_of(spec, lambda region, view: self._read(region, view))

    def get_slice(self, name: str) -> Any:
        """Return an object that takes indices and gives that part of a tensor: `f.get_slice("w")[2:4]`."""
        from safeload.build.lazily import LazySlice

        spec = self._spec(name)
        return LazySlice(spec, lambda region, view: self._read(region, view))

    def _spec(self, name: str) -> TensorSpec:
        spec = self._table.get(name)
        if spec is None:
            raise UsageError(f"no tensor is named {escape(name)!r}", where=self._source.name, hint="keys() lists them")
        return spec

    def _read(self, region: Region, view: memoryview) -> None:
        """Fill `view` with `region`, a stored range of the file, verified when the file is pinned."""
        if self._pin is None:
            self._source.readinto(region.offset, view, keep=False)
            return
        from safeload.trust.digest import LEAF_SIZE

        leaves = self._verified_leaves()
        position, end = region.offset, region.offset + len(view)
        while position < end:
            index = position // LEAF_SIZE
            start = index * LEAF_SIZE
            leaf = memoryview(bytearray(min(LEAF_SIZE, self._source.size - start)))
            self._source.readinto(start, leaf, keep=False)
            if hashlib.sha256(leaf).digest() != leaves[index]:
                raise PinError(
                    f"bytes {start} to {start + len(leaf)} changed since the file was verified",
                    where=self._source.name,
                    expected=f"sha256:{leaves[index].hex()}",
                    found=f"sha256:{hashlib.sha256(leaf).hexdigest()}",
                ).under("SL601")
            stop = min(end, start + len(leaf))
            view[position - region.offset : stop - region.offset] = leaf[position - start : stop - start]
            position = stop

    def _verified_leaves(self) -> list[bytes]:
        if self._leaves is None:
            from safeload.lockfile import require_match
            from safeload.trust.digest import TreeHasher

            tree, whole = TreeHasher(), hashlib.sha256()
            for piece in self._source.pieces():
                tree.update(piece)
                whole.update(piece)
            if self._pin is not None:
                require_match(
                    self._pin, size=self._source.size, sha256=whole.hexdigest(), tree=tree.hexdigest(), where=self._source.name
                )
            self._leaves = list(tree.leaves)
        return self._leaves


@contextmanager
def open(f: Any, *, policy: Any = None, lock: Any = None) -> Iterator[LazyFile]:
    """Open a model file for reading tensors one at a time.

    Args:
        f: A path, a file object, bytes, or a model's name in the lockfile.
        policy: As for `safeload.load`.
        lock: As for `safeload.load`.

    Yields:
        A `LazyFile` with `keys()`, `get_tensor()`, `get_slice()` and `metadata()`.

    Raises:
        RefusedError, PinError, MalformedError: as for `safeload.load`.
    """
    from safeload.api import Gate, announced, refuse_unreadable
    from safeload.tensor_table import table_of

    context = Context.of(policy, lock)
    target = context.target(f)
    with Source.open(target.file) as source:
        contents, report = examine(source)
        gate = Gate(context, target, source, report, inert=False)
        with announced(gate):
            refuse_unreadable(source, contents, report)
            if contents is None:
                raise MalformedError("no reader claims the file", where=source.name)
            if gate.needs_digest and target.pin is None:
                gate.match()
            gate.pin = gate.pin or target.pin
            gate.decide()
            lazy = LazyFile(source, table_of(contents), dict(contents.metadata), gate.pin)
            if gate.pin is not None:
                lazy._verified_leaves()
        yield lazy

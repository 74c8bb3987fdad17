"""`safeload.open`: tensors one at a time, verified leaf by leaf as they are touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from safeload.context import Context
from safeload.errors import MalformedError, SafeloadError, UnsupportedError, UsageError
from safeload.findings import escape
from safeload.formats import Contents
from safeload.program import Region
from safeload.reporting import examine
from safeload.source import Source

if TYPE_CHECKING:
    from safeload.verified import Verified

__all__ = ["LazyFile", "open"]


class LazyFile:
    """An open model file. Made by `safeload.open`.

    A tensor's bytes are read when it is asked for. When the file is pinned, every leaf that a tensor touches is read into memory,
    compared with the list of leaves, and used from there, so that a change to the file at any time is seen.

    Args:
        source: The file.
        table: What it goes by, as `tensor_table.tables_of` gives it.
        others: Other names that are understood.
        metadata: The file's own small facts.
        verified: Verified reads, when it is pinned.
    """

    def __init__(
        self, source: Source, table: Mapping[str, Any], others: Mapping[str, Any], metadata: dict[str, str], verified: Verified | None
    ) -> None:
        self._source = source
        self._table = table
        self._others = others
        self._metadata = metadata
        self._verified = verified

    def keys(self) -> list[str]:
        """Names of all tensors, in file order: those of `safeload.state_dict` where the file holds objects, else the keys there."""
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
            UnsupportedError: it can only be made by a load.
        """
        from safeload.build import torch_module

        torch_module()
        from safeload.build.lazy_values import value_of

        return self._located(lambda: value_of(self._value(name), self._read))

    def get_slice(self, name: str) -> Any:
        """Return an object that takes indices and gives that part of a tensor: `f.get_slice("w")[2:4]`."""
        from safeload.build.lazily import LazySlice
        from safeload.tensor_table import spec_of

        spec = spec_of(self._value(name))
        if spec is None:
            raise UnsupportedError("only a dense tensor has slices", where=self._source.name, hint="get_tensor() gives it as a whole")
        return LazySlice(spec, self._read)

    def _value(self, name: str) -> Any:
        found = self._table.get(name, self._others.get(name))
        if found is None:
            raise UsageError(f"no tensor is named {escape(str(name))!r}", where=self._source.name, hint="keys() lists them")
        return found

    def _located(self, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except SafeloadError as error:
            raise error.at(self._source.name) from error.__cause__

    def _read(self, region: Region, view: memoryview) -> None:
        """Fill `view` with `region`, a stored range of the file, verified when the file is pinned."""
        if self._verified is None:
            self._source.readinto(region.offset, view, keep=False)
        else:
            self._verified.read(region.offset, view)


class _Several(LazyFile):
    """The files of an index, opened as one: each reads and verifies its own tensors."""

    def __init__(self, source: Source, parts: dict[str, LazyFile]) -> None:
        super().__init__(source, {}, {}, {}, None)
        self._parts = parts

    def keys(self) -> list[str]:
        """Names of all tensors, file by file."""
        return list(self._parts)

    def metadata(self) -> dict[str, str]:
        """What all files say alike."""
        first, *rest = dict.fromkeys(self._parts.values())
        facts = first.metadata()
        return {key: value for key, value in facts.items() if all(part.metadata().get(key) == value for part in rest)}

    def get_tensor(self, name: str) -> Any:
        """Return one tensor, verified, from the file that has it."""
        return self._part(name).get_tensor(name)

    def get_slice(self, name: str) -> Any:
        """Return an object that takes indices and gives that part of a tensor."""
        return self._part(name).get_slice(name)

    def _part(self, name: str) -> LazyFile:
        part = self._parts.get(name)
        if part is None:
            raise UsageError(f"no tensor is named {escape(name)!r}", where=self._source.name, hint="keys() lists them")
        return part


@contextmanager
def open(f: Any, *, policy: Any = None, lock: Any = None) -> Iterator[LazyFile]:
    """Open a model file for reading tensors one at a time. Nothing in it is run: objects in it are only described.

    A whole pickled module opens under the names of its state dict. Every tensor that `safeload.state_dict` gives can be had.

    Args:
        f: A path, a file object, bytes, a model's name in the lockfile, or an address as for `safeload.scan`.
        policy: As for `safeload.load`.
        lock: As for `safeload.load`.

    Yields:
        A `LazyFile` with `keys()`, `get_tensor()`, `get_slice()` and `metadata()`.

    Raises:
        RefusedError, PinError, MalformedError: as for `safeload.load`.
    """
    with ExitStack() as stack:
        yield _opened(f, Context.of(policy, lock), stack)


def _opened(f: Any, context: Context, stack: ExitStack, *, part: bool = False) -> LazyFile:
    """Open one file, or all files of an index; the stack closes them."""
    from safeload.gate import Gate, announced, refuse_unreadable
    from safeload.tensor_table import tables_of

    target = context.target(f, remote=not part)
    source = stack.enter_context(Source.open(target.file))
    contents, report = examine(source, values=False)  # the table is made by such a build
    gate = Gate(context, target, source, report, inert=True)
    with announced(gate):
        refuse_unreadable(source, contents, report)
        if contents is None:
            raise MalformedError("no reader claims the file", where=source.name)
        if gate.needs_digest and target.pin is None:
            gate.match()
        gate.pin = gate.pin or target.pin
        gate.decide()
        if contents.shards is not None:
            gate.match()  # small, and it says which files are opened
            return _several(contents, source, context, stack, part=part)
        verified = None
        if gate.pin is not None:
            from safeload.verified import Verified

            verified = Verified.of(source, contents, gate)
        return LazyFile(source, *tables_of(contents), dict(contents.metadata), verified)


def _several(contents: Contents, source: Source, context: Context, stack: ExitStack, *, part: bool) -> LazyFile:
    from safeload.formats.index_file import files_of
    from safeload.several import check_names

    shards = contents.shards or {}
    parts: dict[str, LazyFile] = {}
    for path in files_of(contents, source, part=part):
        opened = _opened(path, context, stack, part=True)
        names = opened.keys()
        check_names(dict.fromkeys(names), {name for name, file in shards.items() if file == path.name}, escape(str(path), 500))
        parts.update(dict.fromkeys(names, opened))
    return _Several(source, parts)

"""Tensors, Parameters, storages and everything else that `torch.load` gives, made from a judged file: the way in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from safeload.build import torch_module
from safeload.errors import LimitError, MalformedError, SafeloadError
from safeload.findings import escape
from safeload.formats import Contents
from safeload.program import StorageSpec
from safeload.source import Limits, Source
from safeload.walk import Walk
from safeload.walk.model import Model, Unknown, build

if TYPE_CHECKING:
    from safeload.build.many_tensors import Many
    from safeload.build.storages import StorageBank

__all__ = ["Described", "build_torch"]


class Described(Protocol):
    """An object that is described by other means than a pickle stream: the manifest of a converted file."""

    @property
    def walk(self) -> Walk:
        """For the model: which globals the description names."""
        ...

    @property
    def storages(self) -> list[StorageSpec]:
        """All storages, each to be read before anything is built."""
        ...

    @property
    def source(self) -> Source:
        """Where they are read: the file's own source, or one that has more bytes."""
        ...

    def build(self, model: Model) -> Any:
        """Build the object with the model's answers."""
        ...


def build_torch(
    contents: Contents,
    source: Source,
    *,
    map_location: Any = None,
    mmap: bool | None = None,
    unknown: Unknown = "refuse",
    grants: Iterable[str] | Callable[[], Iterable[str]] = (),
    before_build: Callable[[], None] | None = None,
    limits: Limits | None = None,
    leaf: int | None = None,
    check_crc: bool = True,
    described: Described | None = None,
) -> Any:
    """Build what a file holds: read every storage, let the caller verify, then make objects.

    Args:
        contents: What its reader found; it was read without an error.
        source: The same bytes.
        map_location: As for `torch.load`.
        mmap: Map the file; None for torch's configured default.
        unknown: "refuse" or "inert".
        grants: Globals that policy allows, by name; called after `before_build` when it is callable.
        before_build: Called when all bytes are in memory and before anything is made of them: compare digests here.
        limits: Bounds.
        leaf: Bytes of a leaf, when `before_build` compares a tree digest: its leaves are hashed while storages are read.
        check_crc: False when `before_build` compares a digest with a pin: then CRCs say nothing more.
        described: For a table of tensors that also says which object they belong to: how that is built.

    Returns:
        The object of the main stream, or a dict of tensors for a format that is a table.

    Raises:
        RefusedError: something that is not modelled and not granted is called.
        MalformedError: a value breaks a rule.
        UnsupportedError: the format is read and never built; this torch, numpy or machine cannot make something; a device is not there.
        ArgumentError, UsageError: an argument has no meaning.
        Exception: whatever a callable `map_location` raises, untouched.
    """
    torch_module()
    from safeload.build.many_tensors import find_many
    from safeload.build.placement import CallerError
    from safeload.build.storages import read_storages, wants_mapping

    try:
        mapped = wants_mapping(mmap, contents.format, source)
        specs = contents.storages if described is None else described.storages
        held = source if described is None else described.source
        if held is not source:  # storages that must be put together are neither mapped nor leaves of the file
            mapped, leaf = False, None
        many = find_many(contents, map_location) if described is None and not mapped else None
        if many is not None:
            many.read(source, check_crc=check_crc)
        bank = read_storages(
            held,
            specs if many is None else many.rest,
            map_location=map_location,
            mapped=mapped,
            limits=limits,
            check_crc=check_crc or held is not source,
            leaf=leaf,
        )
        if before_build is not None:
            before_build()
        with bank.placement.announced(functions=contents.format != "torch-legacy"):
            return _build(contents, bank, unknown, grants() if callable(grants) else grants, described, many)
    except CallerError as carried:
        raise carried.error from None
    except SafeloadError:
        raise
    except MemoryError as error:
        raise LimitError("what the file holds does not fit into memory").under("SL302") from error
    except RecursionError as error:
        raise LimitError("values nested deeper than Python goes").under("SL127") from error


def _build(
    contents: Contents, bank: StorageBank, unknown: Unknown, grants: Iterable[str], described: Described | None, many: Many | None
) -> Any:
    from safeload.build.torch_model import TorchModel, dense

    if described is not None:
        return described.build(TorchModel(described.walk, bank, unknown=unknown, granted=grants))
    if contents.table is not None:
        made = many.made() if many is not None else {}
        return {name: made[name] if name in made else dense(bank, spec, hooks=False) for name, spec in contents.table.items()}
    main = contents.main
    contents.require_built()
    if main is None or main.walk.end is None:
        raise MalformedError(contents.error or "there is nothing in the file that could be built")
    try:
        model = TorchModel(main.walk, bank, unknown=unknown, persistent=main.persistent, granted=grants)
        return build(main.walk, model) if many is None else build(main.walk, model, made=many.made(), ends=many.ends, taken=many.ids)
    except SafeloadError as error:
        if main.member is not None and error.where.startswith("@"):
            error.at(f"!{escape(main.member)}")
        raise

"""Tensors, Parameters, storages and everything else that `torch.load` gives, made from a judged file: the way in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from safeload.build import torch_module
from safeload.errors import LimitError, MalformedError, SafeloadError
from safeload.findings import escape
from safeload.formats import Contents
from safeload.source import Limits, Source
from safeload.walk.model import Unknown, build

if TYPE_CHECKING:
    from safeload.build.storages import StorageBank

__all__ = ["build_torch"]


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
        leaf: Bytes of a leaf, when `before_build` compares a tree digest: its leaves are hashed while storages are read, and
            CRCs, which then say nothing more, are not looked at.

    Returns:
        The object of the main stream, or a dict of tensors for a format that is a table.

    Raises:
        RefusedError: something that is not modelled and not granted is called.
        MalformedError: a value breaks a rule.
        UnsupportedError: this torch, numpy or machine cannot make something; a device is not there.
        ArgumentError, UsageError: an argument has no meaning.
        Exception: whatever a callable `map_location` raises, untouched.
    """
    torch_module()
    from safeload.build.placement import CallerError
    from safeload.build.storages import read_storages, wants_mapping

    try:
        mapped = wants_mapping(mmap, contents.format, source)
        bank = read_storages(
            source, contents.storages, map_location=map_location, mapped=mapped, limits=limits, check_crc=leaf is None, leaf=leaf
        )
        if before_build is not None:
            before_build()
        with bank.placement.announced():
            return _build(contents, bank, unknown, grants() if callable(grants) else grants)
    except CallerError as carried:
        raise carried.error from None
    except SafeloadError:
        raise
    except MemoryError as error:
        raise LimitError("what the file holds does not fit into memory").under("SL302") from error
    except RecursionError as error:
        raise LimitError("values nested deeper than Python goes").under("SL127") from error


def _build(contents: Contents, bank: StorageBank, unknown: Unknown, grants: Iterable[str]) -> Any:
    from safeload.build.torch_model import TorchModel, dense

    if contents.table is not None:
        return {name: dense(bank, spec, hooks=False) for name, spec in contents.table.items()}
    main = contents.main
    if main is None or main.walk.end is None:
        raise MalformedError(contents.error or "there is nothing in the file that could be built")
    try:
        return build(main.walk, TorchModel(main.walk, bank, unknown=unknown, persistent=main.persistent, granted=grants))
    except SafeloadError as error:
        if main.member is not None and error.where.startswith("@"):
            error.at(f"!{escape(main.member)}")
        raise

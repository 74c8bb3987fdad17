"""Pins of files that are not on this machine: under which name, and what the lock says about where they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import unquote, urlsplit, urlunsplit

from safeload.errors import UsageError
from safeload.findings import Report, escape
from safeload.lockfile import Lockfile, ModelSource, path_problem
from safeload.remote import Address

__all__ = ["file_name", "with_sources"]


def file_name(address: Address, *, complete: bool) -> str:
    """The name under which a file at an address is pinned: its own, beside the lockfile, where it will lie once somebody fetched it.

    Raises:
        UsageError: it has none that a lockfile can hold, or a whole directory was meant.
    """
    if complete:
        raise UsageError("only a directory can be complete", where=escape(address.shown, 1000))
    last = unquote(urlsplit(address.url).path).rstrip("/").rpartition("/")[2]
    if path_problem(last) is not None or not last.isprintable():
        raise UsageError("the address ends in no file name", where=escape(address.shown, 1000))
    return last


def with_sources(held: Lockfile, pinned: Sequence[tuple[str, str]], found: Mapping[str, tuple[Address, Report]]) -> Lockfile:
    """Say of models whose files were read from an address where that was; of a repository, at which commit.

    Args:
        held: The lock with the new pins in it.
        pinned: Path in the lock and model of each file that is pinned now.
        found: By path in the lock: its address, and what was read there.
    """
    for path, name in pinned:
        model = held.model(name)
        if model is None or path not in found:
            continue
        source = _source(*found[path])
        # An address is one file's; a repository holds for all that came from it.
        if source is not None and (len(model.files) == 1 or source.repo is not None):
            held = held.with_model(replace(model, source=source))
    return held


def _source(address: Address, report: Report) -> ModelSource | None:
    """Never with user, password, query or what else of an address may be secret."""
    origin = report.origin
    if origin is not None and origin.repo is not None:
        return ModelSource(kind="huggingface", repo=origin.repo, requested=origin.requested, revision=origin.revision)
    if address.protocol != "https":
        return None
    parts = urlsplit(address.url)
    return ModelSource(kind="https", url=urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")))

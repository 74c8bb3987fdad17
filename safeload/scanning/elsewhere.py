"""What lies below a prefix of a store, or in a repository of a hub: like a directory, in a stable order, nothing passed by in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from safeload.directory import matches
from safeload.errors import SafeloadError
from safeload.findings import escape
from safeload.remote import Address, shown
from safeload.remote.marks import mark_of
from safeload.scanning.jobs import Job, Skipped

__all__ = ["below"]

_DEPTH: Final = 200


def below(url: str, *, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Iterator[Job | Skipped]:
    """Yield every file below a prefix.

    Args:
        url: Its address.
        include: Globs as for `safeload.directory.files_below`.
        exclude: Likewise.
    """
    where = escape(shown(url), 1000)
    try:
        address = Address.of(url)
        if not isinstance(address, Address):
            yield Job(url, problem="a directory of this machine: name its path")
            return
        found = _hub(url, where) if address.protocol == "hf" else _tree(address, where)
        for job, relative in found:
            if job.problem is None and matches(exclude, relative):
                yield Skipped(shown(job.path), "left out by --exclude")
            elif job.problem is None and include and not matches(include, relative):
                yield Skipped(shown(job.path), "left out by --include")
            else:
                yield job
    except SafeloadError as error:
        yield Job(url, problem=error.message)
    except OSError as error:
        yield Job(url, problem=(error.strerror or str(error)).lower())


def _tree(address: Address, where: str) -> Iterator[tuple[Job, str]]:
    """A file system of fsspec, one directory after the other, and page by page where it has pages: files, then directories."""
    from safeload.remote.listing import Listing

    listing, base = Listing(address, where), address.url.rstrip("/")
    todo = [""]
    while todo:
        folder = todo.pop()
        later: list[str] = []
        try:
            for page in listing.pages(folder):
                for relative, entry in sorted(page, key=lambda found: found[0]):
                    found = _entry(base, relative, entry)
                    if found is None:
                        later.append(f"{relative}/")
                    else:
                        yield found, relative
        except (SafeloadError, OSError) as error:
            why = error.message if isinstance(error, SafeloadError) else (error.strerror or str(error)).lower()
            yield Job(f"{base}/{folder}", True, f"the directory cannot be listed: {why}"), folder
        todo.extend(sorted(later, reverse=True))


def _entry(base: str, relative: str, entry: Mapping[str, Any]) -> Job | None:
    """What one entry of a listing is to a scan; None for a directory that is to be listed itself."""
    kind, size, path = entry.get("type"), entry.get("size"), f"{base}/{relative}"
    if "" in relative.split("/"):
        return Job(path, True, "a name with an empty part, which not all tools lead to the same place")
    if kind == "directory":
        return Job(path, True, f"directories are nested deeper than {_DEPTH} levels") if relative.count("/") > _DEPTH else None
    if kind == "file" and isinstance(size, int):
        return Job(path, True, None, size, mark_of(path, size, entry) or None)
    return Job(path, True, "not a file with a size")


def _hub(url: str, where: str) -> Iterator[tuple[Job, str]]:
    """A repository at the commit that its revision is now."""
    from safeload.remote.hub import hub_tree

    for path, size, mark, relative in hub_tree(url.rstrip("/"), where):
        yield Job(path, True, None, size, mark or None), relative

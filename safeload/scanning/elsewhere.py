"""What lies below a prefix of a store, or in a repository of a hub: like a directory, in a stable order, nothing passed by in silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from safeload.directory import matches
from safeload.errors import SafeloadError
from safeload.findings import escape
from safeload.remote import Address, shown
from safeload.remote.marks import mark_of
from safeload.remote.patience import patiently, usual
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
    """A file system of fsspec, one directory after the other: a listing of everything would grow with the number of files."""
    from safeload.remote.file_systems import file_system, guarded

    system, root = file_system(address, where)
    root, base = root.rstrip("/"), address.url.rstrip("/")
    todo = [""]
    while todo:
        folder = todo.pop()
        place = f"{root}/{folder}".rstrip("/")

        def listing(place: str = place) -> list[dict[str, Any]]:
            entries: list[dict[str, Any]] = guarded(where, lambda: system.ls(place, detail=True))
            return entries

        try:
            entries = patiently(listing, usual(), where)
        except (SafeloadError, OSError) as error:
            why = error.message if isinstance(error, SafeloadError) else (error.strerror or str(error)).lower()
            yield Job(f"{base}/{folder}", True, f"the directory cannot be listed: {why}"), folder
            continue
        later = []
        for relative, entry in sorted(_named(entries, root, folder)):
            kind, size = entry.get("type"), entry.get("size")
            path = f"{base}/{relative}"
            if kind == "directory":
                if relative.count("/") > _DEPTH:
                    yield Job(path, True, f"directories are nested deeper than {_DEPTH} levels"), relative
                else:
                    later.append(f"{relative}/")
            elif kind == "file" and isinstance(size, int):
                yield Job(path, True, None, size, mark_of(path, size, entry) or None), relative
            else:
                yield Job(path, True, "not a file with a size"), relative
        todo.extend(reversed(later))


class _Entry(dict[str, Any]):
    """Sorts by its place alone."""

    def __lt__(self, other: object) -> bool:
        return False


def _named(entries: list[dict[str, Any]], root: str, folder: str) -> Iterator[tuple[str, _Entry]]:
    """The entries that lie below, by their path from the root; a store lists a prefix's own marker among them."""
    front = f"{root.lstrip('/')}/" if root.strip("/") else ""
    for entry in entries:
        name = str(entry.get("name", "")).lstrip("/").rstrip("/")
        relative = name.removeprefix(front)
        if relative.startswith(folder) and relative not in ("", folder.rstrip("/")) and name != root.strip("/"):
            yield relative, _Entry(entry)


def _hub(url: str, where: str) -> Iterator[tuple[Job, str]]:
    """A repository at the commit that its revision is now."""
    from safeload.remote.hub import hub_tree

    for path, size, mark, relative in hub_tree(url.rstrip("/"), where):
        yield Job(path, True, None, size, mark or None), relative

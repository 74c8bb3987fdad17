"""Ranges of a file on a hub that speaks the Hugging Face API: the revision is resolved to a commit first, and that commit is read.

`huggingface_hub` resolves the address and knows endpoint and token (HF_ENDPOINT, HF_TOKEN); the bytes come over plain ranges.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from safeload.errors import MissingExtraError, RemoteError, UsageError
from safeload.remote.file_systems import guarded
from safeload.remote.http_ranges import HttpRanges
from safeload.remote.marks import mark_of
from safeload.remote.patience import Patience, patiently, usual

__all__ = ["HubFile", "HubRanges", "hub_address", "hub_file", "hub_ranges", "hub_tree", "oid_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """What a hub says of one path in a repository.

    Attributes:
        kind: "model", "dataset" or "space".
        repo: Its full name.
        requested: The revision that was asked for.
        commit: What that is now.
        path: In the repository; "" for the repository itself.
        size: Bytes, or None for a directory.
        oid: What the hub calls its content.
    """

    kind: str
    repo: str
    requested: str
    commit: str
    path: str
    size: int | None
    oid: str | None = None


def _hub(where: str) -> Any:
    try:
        from huggingface_hub import HfFileSystem
    except ImportError:
        pass
    else:
        return guarded(where, lambda: HfFileSystem(skip_instance_cache=True, use_listings_cache=False))
    raise MissingExtraError("reading hf:// needs huggingface_hub, which is not installed", where=where, hint="pip install 'safeload[hf]'")


def hub_file(url: str, where: str, patience: Patience | None = None) -> HubFile:
    """Resolve an address such as `hf://owner/repo@revision/path`.

    Raises:
        FileNotFoundError, PermissionError: as the hub says.
        UsageError: it is not the address of a repository.
        RemoteError: the hub cannot be reached.
        MissingExtraError: huggingface_hub is not installed.
    """
    system = _hub(where)

    def resolve() -> HubFile:
        try:
            found = guarded(where, lambda: system.resolve_path(url))
        except RemoteError as error:
            problem = error
        else:
            if not isinstance(getattr(found, "repo_id", None), str):
                raise UsageError("is not in a repository", where=where, hint="hf://owner/name@revision/path names a file")
            return _resolved(system, found, where)
        if "ValueError" in problem.message or "HfUri" in problem.message or "NotImplemented" in problem.message:
            raise UsageError("is not the address of a repository", where=where, hint="hf://owner/name@revision/path names a file")
        raise problem

    return patiently(resolve, patience or usual(), where)


def _resolved(system: Any, found: Any, where: str) -> HubFile:
    api = system._api  # noqa: SLF001 - with the endpoint and the token that the file system found
    about = {"repo_id": found.repo_id, "repo_type": found.repo_type}
    commit = guarded(where, lambda: api.repo_info(revision=found.revision, timeout=usual().stall, **about)).sha
    if not isinstance(commit, str) or not commit:
        raise RemoteError("the hub does not say which commit that is", where=where)
    size: int | None = None
    oid: str | None = None
    if found.path_in_repo:
        entries = guarded(where, lambda: api.get_paths_info(paths=[found.path_in_repo], revision=commit, **about))
        if not entries:
            raise FileNotFoundError(2, "not found", where)
        size, oid = getattr(entries[0], "size", None), oid_of(entries[0])
    return HubFile(
        kind=found.repo_type, repo=found.repo_id, requested=found.revision, commit=commit, path=found.path_in_repo, size=size, oid=oid
    )  # fmt: skip


def oid_of(entry: Any) -> str | None:
    """What the hub calls a file's content: its LFS digest, or its Git blob."""
    lfs = getattr(entry, "lfs", None)
    oid = getattr(lfs, "sha256", None) or getattr(entry, "blob_id", None)
    return oid if isinstance(oid, str) else None


class HubRanges(HttpRanges):
    """One file of one commit. `file` says which."""

    def __init__(self, file: HubFile, where: str, patience: Patience | None = None) -> None:
        import huggingface_hub as hub

        if file.size is None:
            raise IsADirectoryError(21, 'is a directory: end its address with "/" for what lies below', where)
        self.file = file
        system = _hub(where)
        endpoint = system._api.endpoint  # noqa: SLF001 - as above
        url = guarded(where, lambda: hub.hf_hub_url(file.repo, file.path, repo_type=file.kind, revision=file.commit, endpoint=endpoint))
        super().__init__(url, where, headers=guarded(where, hub.utils.build_hf_headers), patience=patience)
        self.place = {"repo": file.repo, "requested": file.requested, "revision": file.commit}
        if self.size != file.size:
            self.close()
            message = f"the hub says {file.size} bytes, and {self.size} are served"
            raise RemoteError(message, where=where, hint="what is served is not the file of this commit")

    @property
    def mark(self) -> str:
        """By its content, whatever the commit."""
        return mark_of(hub_address(self.file), self.size, {"oid": self.file.oid})

    @property
    def version(self) -> str:
        """The commit."""
        return f"commit {self.file.commit}"


def hub_address(file: HubFile) -> str:
    """The address of a file, the same for every revision."""
    return f"hf://{file.kind}s/{file.repo}/{file.path}"


def hub_ranges(url: str, where: str) -> HubRanges:
    """Open a file on a hub."""
    return HubRanges(hub_file(url, where), where)




def hub_tree(url: str, where: str) -> Iterator[tuple[str, int, str, str]]:
    """Yield the files of a repository, or of a directory in it, as they are at the commit that the revision is now.

    Yields:
        The address, at that commit; its size in bytes; its mark; and its path below what was asked for.
    """
    file = hub_file(url, where)
    api = _hub(where)._api  # noqa: SLF001 - as above
    kind = "" if file.kind == "model" else f"{file.kind}s/"
    if file.size is not None:
        yield f"hf://{kind}{file.repo}@{file.commit}/{file.path}", file.size, _mark(file, file.path, file.size, file.oid), file.path
        return
    entries = guarded(
        where, lambda: iter(api.list_repo_tree(file.repo, file.path or None, recursive=True, revision=file.commit, repo_type=file.kind))
    )
    end = object()
    while (entry := guarded(where, lambda: next(entries, end))) is not end:
        size = getattr(entry, "size", None)
        if isinstance(size, int):  # a directory has none, and its files are entries themselves
            relative = entry.path.removeprefix(f"{file.path}/") if file.path else entry.path
            yield f"hf://{kind}{file.repo}@{file.commit}/{entry.path}", size, _mark(file, entry.path, size, oid_of(entry)), relative


def _mark(file: HubFile, path: str, size: int, oid: str | None) -> str:
    return mark_of(hub_address(replace(file, path=path)), size, {"oid": oid})

"""What lies directly below a place in a store, a page of its listing after the other: a prefix may hold a million objects.

Where a file system has no way to ask for a page, its whole listing is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from safeload.remote.address import Address
from safeload.remote.file_systems import file_system, guarded
from safeload.remote.patience import patiently, usual

__all__ = ["Listing"]

_PAGE: Final = 1000  # what S3 gives at most
_S3: Final = frozenset({"s3", "s3a"})
_GCS: Final = frozenset({"gs", "gcs"})
_Entry = tuple[str, dict[str, Any]]


class Listing:
    """Listings below one address.

    Args:
        address: Of a prefix.
        where: For messages.

    Raises:
        MissingExtraError, UsageError, RemoteError: as `file_system`.
    """

    def __init__(self, address: Address, where: str) -> None:
        system, root = file_system(address, where)
        self._system, self._root, self._where = system, root.rstrip("/"), where
        self._kind = address.protocol

    def pages(self, folder: str) -> Iterator[list[_Entry]]:
        """Yield pages of entries: the path of each below the address, and what the store says of it, as fsspec has it ("type", "size").

        Args:
            folder: Below the address; "", or ends in "/".

        Raises:
            FileNotFoundError: nothing lies there.
            PermissionError: as the store says.
            RemoteError: no answer, or none that can be used.
        """
        if self._kind not in _S3 | _GCS:
            place = f"{self._root}/{folder}".rstrip("/")
            yield list(self._below(self._patiently(lambda: self._system.ls(place, detail=True)), folder))
            return
        bucket, _, key = self._root.partition("/")
        prefix = f"{key}/{folder}" if key else folder
        token: str | None = None
        found = False
        while True:
            page = self._patiently(lambda token=token: self._page(bucket, prefix, token))
            entries = list(_stored(page, folder, prefix))
            found = found or bool(page.get("Contents") or page.get("items") or page.get("CommonPrefixes") or page.get("prefixes"))
            yield entries
            token = page.get("NextContinuationToken") or page.get("nextPageToken")
            if not token:
                break
        if not found and prefix:
            raise FileNotFoundError(2, "not found", self._where)

    def _patiently(self, ask: Any) -> Any:
        return patiently(lambda: guarded(self._where, ask), usual(), self._where)

    def _page(self, bucket: str, prefix: str, token: str | None) -> Mapping[str, Any]:
        """Ask for one page."""
        from fsspec.asyn import sync

        system, most = self._system, usual().whole(1 << 20)
        if self._kind in _S3:
            more = {"ContinuationToken": token} if token else {}
            call = system._call_s3  # noqa: SLF001 - the public way keeps all of a listing
            return dict(sync(
                system.loop, call, "list_objects_v2", Bucket=bucket, Prefix=prefix, Delimiter="/", MaxKeys=_PAGE, **more, **system.req_kw,
                timeout=most,
            ))  # fmt: skip
        more = {"pageToken": token} if token else {}
        call = system._call  # noqa: SLF001 - as above
        return dict(sync(
            system.loop, call, "GET", "b/{}/o", bucket, delimiter="/", prefix=prefix, maxResults=_PAGE, json_out=True, **more, timeout=most
        ))  # fmt: skip

    def _below(self, entries: list[dict[str, Any]], folder: str) -> Iterator[_Entry]:
        """Those that lie below, by their path from the root; a store lists a prefix's own marker among them."""
        root = self._root.strip("/")
        front = f"{root}/" if root else ""
        for entry in entries:
            name = str(entry.get("name", "")).strip("/")
            relative = name.removeprefix(front)
            if relative.startswith(folder) and relative not in ("", folder.rstrip("/")) and name != root:
                yield relative, entry


def _stored(page: Mapping[str, Any], folder: str, prefix: str) -> Iterator[_Entry]:
    """The entries of a page of S3's or Google's, in the words of fsspec."""
    for entry in page.get("CommonPrefixes", ()):
        yield folder + str(entry["Prefix"])[len(prefix) :].removesuffix("/"), {"type": "directory"}
    for name in page.get("prefixes", ()):
        yield folder + str(name)[len(prefix) :].removesuffix("/"), {"type": "directory"}
    for entry in page.get("Contents", ()):
        if entry["Key"] != prefix:  # how consoles make a directory
            yield folder + str(entry["Key"])[len(prefix) :], {**entry, "type": "file", "size": entry.get("Size")}
    for entry in page.get("items", ()):
        if entry["name"] != prefix:
            yield folder + str(entry["name"])[len(prefix) :], {**entry, "type": "file", "size": int(entry.get("size", 0))}

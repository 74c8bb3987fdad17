"""Ranges of a file in any file system of fsspec: buckets by their own conditional requests, all others with a look before and after.

What a library says when it fails holds addresses and now and then credentials. It is never repeated: errors are told in words of our
own, with the code that the server gave.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Mapping
from typing import Any, Final

from safeload.errors import MissingExtraError, RemoteError, UsageError
from safeload.findings import escape
from safeload.remote.address import Address
from safeload.remote.marks import mark_of
from safeload.remote.patience import Again, Patience, patiently, usual

__all__ = ["FileSystemRanges", "file_system", "file_system_ranges", "guarded"]

_EXTRAS: Final = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
# Keys of `info()` that are about the object; others (storage class, content type, a request's own id) may change by themselves.
_MARKS: Final = (
    "size", "ETag", "etag", "e_tag", "VersionId", "version_id", "generation", "metageneration", "md5Hash", "crc32c", "checksum", "sha256",
    "LastModified", "last_modified", "modified", "mtime", "updated", "created", "ino", "rev", "hash", "content_hash",
)  # fmt: skip


def file_system(address: Address, where: str) -> tuple[Any, str]:
    """Return the file system of an address, with the options that fsspec's configuration gives it, and the path in it.

    Raises:
        MissingExtraError: what speaks this protocol is not installed.
        UsageError: nothing speaks it.
    """
    extra = _EXTRAS.get(address.protocol, "remote")
    hint = f"pip install 'safeload[{extra}]'"
    problem: Exception
    try:
        import fsspec
    except ImportError:
        problem = MissingExtraError(f"reading {address.protocol}:// needs fsspec, which is not installed", where=where, hint=hint)
    else:
        try:
            kind = fsspec.get_filesystem_class(address.protocol)
            system = kind(**_options(address, kind, fsspec.config.conf))
            return system, kind._strip_protocol(address.url)  # noqa: SLF001
        except ImportError:
            text = f"reading {address.protocol}:// needs a package that is not installed"
            if extra == "remote":
                hint = f"install the package in which fsspec looks for '{escape(address.protocol, 40)}'"
            problem = MissingExtraError(text, where=where, hint=hint)
        except ValueError:
            text = f"fsspec knows no file system '{escape(address.protocol, 40)}', or the address is not valid for it"
            problem = UsageError(text, where=where)
        except Exception as error:  # noqa: BLE001 - a file system may raise anything; its text may hold credentials
            problem = _told(error, where)
    raise RemoteError(problem.why, where=where) if isinstance(problem, Again) else problem


def _options(address: Address, kind: Any, conf: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a file system: from the address, and bounds on waiting where its own are far too long."""
    options = {**kind._get_kwargs_from_urls(address.url)}  # noqa: SLF001 - fsspec's own way from an address to its options
    if address.protocol in ("s3", "s3a"):
        said = conf.get("s3", {}).get("config_kwargs", {})
        bounds = {"connect_timeout": usual().connect, "read_timeout": usual().stall, "retries": {"max_attempts": 1}}
        options["config_kwargs"] = {**bounds, **said}
    # A listing that was kept from before must not stand for what is there now. The file system itself is kept by fsspec, for all
    # addresses with the same options: making one takes longer than a range.
    return {**options, "use_listings_cache": False}


def file_system_ranges(address: Address, where: str) -> FileSystemRanges:
    """Open a file in a file system of fsspec."""
    system, path = file_system(address, where)
    kinds = {"s3": _S3Ranges, "s3a": _S3Ranges, "gs": _GcsRanges, "gcs": _GcsRanges}
    return kinds.get(address.protocol, FileSystemRanges)(system, path, where, url=address.url)


def guarded(where: str, call: Callable[[], Any]) -> Any:
    """Call into a file system.

    Raises:
        FileNotFoundError, PermissionError, IsADirectoryError: that is what happened.
        RemoteError: anything else.
    """
    try:
        return call()
    except (RemoteError, Again):
        raise
    except Exception as error:  # noqa: BLE001 - as above
        problem = _told(error, where)
    raise problem


class FileSystemRanges:
    """One file in any file system.

    Args:
        system: fsspec's.
        path: In it.
        where: For messages.
        url: Its address.
        patience: How long to wait.
    """

    head = b""
    place: Mapping[str, str] = {}
    conditional = False  # whether `_range` itself fails when the file changed

    def __init__(self, system: Any, path: str, where: str, *, url: str, patience: Patience | None = None) -> None:
        self._system, self._path, self._where, self._patience = system, path, where, patience or usual()
        self._url = url
        self._info = patiently(self._look, self._patience, where)
        if self._info.get("type") == "directory":
            raise IsADirectoryError(21, 'is a directory: end its address with "/" for what lies below', where)
        size = self._info.get("size")
        if type(size) is not int or size < 0:
            raise RemoteError("the file system does not say how large the file is", where=where)
        self.size: int = size
        self._marks = _marks(self._info)

    @property
    def mark(self) -> str:
        """By what the file system says of the file."""
        return mark_of(self._url, self.size, self._info)

    @property
    def version(self) -> str:
        """The first mark that the file system gives, or "" when the size is all there is."""
        return next((f"{name} {value}".replace('"', "") for name, value in self._marks if name != "size"), "")

    def get(self, start: int, stop: int) -> bytes:
        """Return the bytes of a range."""
        return patiently(lambda: self._attempt(start, stop), self._patience, f"{self._where}@{start}")

    def close(self) -> None:
        """Nothing is held open: fsspec's sessions end with their file system."""

    def _attempt(self, start: int, stop: int) -> bytes:
        try:
            data = guarded(self._where, lambda: self._range(start, stop))
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            data = None
        if data is None:
            raise RemoteError("the file went away while it was read", where=self._where)
        if not isinstance(data, (bytes, bytearray)):
            raise RemoteError("the file system gives something other than bytes", where=self._where)
        if len(data) > stop - start:
            raise RemoteError(f"asked for {stop - start} bytes from byte {start}, got {len(data)}: it gives no ranges", where=self._where)
        if not self.conditional:
            self._compare()
        if len(data) < stop - start:
            raise Again(f"{len(data)} of {stop - start} bytes came")
        return bytes(data)

    def _range(self, start: int, stop: int) -> Any:
        return self._system.cat_file(self._path, start=start, end=stop)

    def _look(self) -> dict[str, Any]:
        """What the file system says of the file now."""

        def look() -> dict[str, Any]:
            self._system.invalidate_cache()
            found = dict(self._system.info(self._path))
            dated = {"LastModified", "last_modified", "mtime", "updated", "modified"} & found.keys()
            if not dated and found.get("type") != "directory":
                with contextlib.suppress(NotImplementedError, AttributeError, KeyError, TypeError):  # not all keep dates
                    found["modified"] = self._system.modified(self._path)
            return found

        found: dict[str, Any] = guarded(self._where, look)
        return found

    def _compare(self) -> None:
        try:
            marks = _marks(self._look())
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            marks = ()
        if marks != self._marks:
            before, now = dict(self._marks), dict(marks)
            what = next((name for name in (*before, *now) if before.get(name) != now.get(name)), "size")
            values = (escape(str(side.get(what, "none")), 100) for side in (before, now))
            message = f"the file changed while it was read: its {what} was {next(values)} and is {next(values)}"
            raise RemoteError(message, where=self._where, hint="something replaced it: scan it again")


class _S3Ranges(FileSystemRanges):
    """An object in an S3 store: each range on condition that the object is still the one that was seen first."""

    conditional = True

    def __init__(self, system: Any, path: str, where: str, *, url: str, patience: Patience | None = None) -> None:
        super().__init__(system, path, where, url=url, patience=patience)
        self._bucket, self._key, version = system.split_path(path)
        self._etag: str = self._info.get("ETag") or ""
        self._version = version or self._info.get("VersionId")
        if not self._etag:
            raise RemoteError("the store gives the object no entity tag, so a change could not be seen", where=where)

    def _range(self, start: int, stop: int) -> bytes:
        from fsspec.asyn import sync

        data: bytes = sync(self._system.loop, self._fetch, start, stop, timeout=self._patience.whole(stop - start))
        return data

    async def _fetch(self, start: int, stop: int) -> bytes:
        more = {"VersionId": self._version} if self._version not in (None, "null") else {}
        answer = await self._system._call_s3(  # noqa: SLF001 - the public way drops the condition
            "get_object", Bucket=self._bucket, Key=self._key, Range=f"bytes={start}-{stop - 1}", IfMatch=self._etag, **more
        )
        body = answer["Body"]
        try:
            given, tag = answer.get("ContentRange", ""), answer.get("ETag", "")
            if given != f"bytes {start}-{stop - 1}/{self.size}":
                message = f"asked for bytes {start} to {stop - 1} of {self.size}, got '{escape(str(given), 100)}'"
                raise RemoteError(message, where=self._where)
            if tag.strip('"') != self._etag.strip('"'):
                raise RemoteError("the object changed while it was read: another entity tag", where=self._where)
            data: bytes = await body.read()
            return data
        finally:
            body.close()


class _GcsRanges(FileSystemRanges):
    """An object in Google's store: each range names the generation that was seen first."""

    def __init__(self, system: Any, path: str, where: str, *, url: str, patience: Patience | None = None) -> None:
        super().__init__(system, path, where, url=url, patience=patience)
        self._generation = self._info.get("generation")
        self.conditional = self._generation is not None

    def _range(self, start: int, stop: int) -> Any:
        from fsspec.asyn import sync

        fetch, more = self._system._cat_file, {"generation": self._generation} if self._generation is not None else {}  # noqa: SLF001
        return sync(self._system.loop, fetch, self._path, start=start, end=stop, timeout=self._patience.whole(stop - start), **more)


def _marks(info: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What tells one version of a file from another."""
    return tuple((name, str(info[name])) for name in _MARKS if info.get(name) is not None)


def _told(error: Exception, where: str) -> Exception:
    """Say what a library's exception is about, without its text."""
    kind = type(error).__name__
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(2, "not found", where)
    if isinstance(error, PermissionError):
        return PermissionError(13, "not permitted", where)
    if isinstance(error, IsADirectoryError):
        return IsADirectoryError(21, 'is a directory: end its address with "/" for what lies below', where)
    answer = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    said = answer.get("Error", {}).get("Code") if isinstance(answer, dict) and isinstance(answer.get("Error"), dict) else None
    status = getattr(error, "status", None) or getattr(error, "code", None) or getattr(answer, "status_code", None)
    if "NotFound" in kind:
        return FileNotFoundError(2, "not found", where)
    if "Gated" in kind:
        return PermissionError(13, "not permitted: the repository is gated", where)
    if said in ("PreconditionFailed", "412") or status in (412, "412"):
        return RemoteError("the file changed while it was read", where=where, hint="something replaced it: scan it again")
    if "Credentials" in kind or "Auth" in kind:
        return PermissionError(13, f"no usable credentials ({kind})", where)
    if isinstance(error, TimeoutError) or "Timeout" in kind:
        return Again(f"no answer in time ({kind})")
    if isinstance(error, ConnectionError) or "Connection" in kind or "EndpointError" in kind or "Incomplete" in kind or "Payload" in kind:
        return Again(f"no connection, or it broke off ({kind})")
    # The number of an OSError, not its text: file systems put there what a server said, and servers repeat what they were sent.
    number = errno.errorcode.get(getattr(error, "errno", None) or 0, "")
    detail = escape(str(said or status or number), 60)
    return RemoteError(f"reading failed: {kind}" + (f" ({detail})" if detail else ""), where=where)

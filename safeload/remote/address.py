"""Addresses: which text is one, and how it is shown without the credentials that may be in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from safeload.errors import UsageError
from safeload.findings import escape
from safeload.lean_dataclass import dataclass, field

if TYPE_CHECKING:
    from safeload.remote.ranges import Ranges

__all__ = ["Address", "is_address", "is_prefix", "shown"]

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)
# File systems of fsspec that open what lies inside other files: nobody but safeload reads a model file here.
_READERS: Final = frozenset(
    {"zip", "tar", "libarchive", "reference", "simplecache", "filecache", "blockcache", "cached", "dir", "generic", "data", "asyncwrapper"}
)  # fmt: skip
_LOCAL: Final = frozenset({"file", "local"})
_OPAQUE: Final = frozenset({"http", "https"})


def is_address(text: str) -> bool:
    """Whether a text is an address rather than a path: it begins with a scheme and "://"."""
    return _SCHEME.match(text) is not None


def shown(url: str) -> str:
    """An address as it may be printed: user and password, values of a query and everything behind "#" become "…".

    Signed addresses carry their signature in the query, and which of its values are secret only the server knows.
    """
    found = _SCHEME.match(url)
    if found is None:
        return url
    rest = url[found.end() :]
    rest, hash_, _ = rest.partition("#")
    rest, question, query = rest.partition("?")
    host, slash, path = rest.partition("/")
    if "@" in host and found[1].lower() != "hf":  # on the hub, "@" stands in front of a revision
        host = "…@" + host.rpartition("@")[2]
    if question:
        names = (name if equals else "" for name, equals, _ in (part.partition("=") for part in query.split("&")))
        question += "&".join(f"{name}=…" if name else "…" for name in names)
    return f"{found[0]}{host}{slash}{path}{question}{'#…' if hash_ else ''}"


def is_prefix(url: str) -> bool:
    """Whether an address stands for all that lies below it: it ends in "/", or is a repository of a hub."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() in _OPAQUE:
        return False
    if scheme.lower() == "hf":
        parts = rest.strip("/").split("/")
        return len(parts) <= (3 if parts[0] in ("datasets", "spaces", "models") else 2) or url.endswith("/")
    return url.endswith("/")


@dataclass(frozen=True, slots=True)
class Address:
    """A file that is not on this machine.

    Attributes:
        url: As it was given, credentials and all: never printed.
        shown: What messages and results call it.
        protocol: The scheme, in small letters.
    """

    url: str = field(repr=False)
    shown: str
    protocol: str

    @classmethod
    def of(cls, url: str) -> Address | str:
        """Read an address; one of a file on this machine gives its path.

        Raises:
            UsageError: it chains file systems, or asks for one that reads inside files.
        """
        found = _SCHEME.match(url)
        if found is None:
            raise UsageError("is no address", where=escape(url, 1000))
        where = escape(shown(url), 1000)
        protocol = found[1].lower()
        if "\0" in url:
            raise UsageError("an address cannot hold a NUL character", where=where)
        from urllib.parse import urlsplit

        try:
            urlsplit(url)
        except ValueError:
            raise UsageError("is not a valid address", where=where) from None
        if "::" in url[: found.end()] or ("::" in url and protocol not in _OPAQUE):
            raise UsageError("a chain of file systems: the outer ones would read the file first", where=where, hint="name the file itself")
        if protocol in _READERS:
            text = f"'{protocol}' is a file system that reads inside files"
            raise UsageError(text, where=where, hint="name the file itself: safeload opens it")
        if protocol in _LOCAL:
            path = url[found.end() :]
            if not path.startswith("/"):
                raise UsageError("only absolute paths have an address", where=where, hint="name the path as it is")
            return path
        return cls(url, shown(url), protocol)

    def beside(self, name: str) -> Address:
        """The address of a file in the same place, without a query: a signature would be for this one."""
        from urllib.parse import quote

        front = self.url.partition("#")[0].partition("?")[0].rpartition("/")[0]
        url = f"{front}/{quote(name) if self.protocol in _OPAQUE else name}"
        return Address(url, shown(url), self.protocol)

    def open(self) -> Ranges:
        """Ask for the file's size and version. Nothing of it is judged yet.

        Raises:
            FileNotFoundError, PermissionError: as its server says.
            IsADirectoryError: it is a prefix, not a file.
            RemoteError: nothing, or nothing usable, came back.
            MissingExtraError: what speaks this protocol is not installed.
        """
        from safeload.remote.opening import open_address

        return open_address(self)

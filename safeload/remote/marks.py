"""What tells one version of a remote file from every other, from whatever its store says of it, without reading it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

__all__ = ["mark_of"]

# The first that is there counts. Content before dates: a date alone can be the same for two writes within its step.
_CONTENT: Final = ("generation", "ETag", "etag", "e_tag", "sha256", "oid", "blob_id", "md5Hash", "checksum", "content_hash", "hash")
_DATES: Final = ("LastModified", "last_modified", "modified", "mtime", "updated", "created")


def mark_of(url: str, size: int | None, said: Mapping[str, Any]) -> str:
    """Return a name for one version of one file, or "" where its store says nothing that would change with it.

    Args:
        url: Its address; user, password and query are left out, so that a new signature makes no new file of it.
        size: Bytes.
        said: What the store says: keys as fsspec's file systems and HTTP have them.
    """
    name = next((key for key in (*_CONTENT, *_DATES) if said.get(key)), None)
    if name is None or size is None:
        return ""
    parts = urlsplit(url)
    place = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2] if parts.scheme != "hf" else parts.netloc, parts.path, "", ""))
    where = hashlib.sha256(place.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{where}:{size}:{name}:{str(said[name]).strip()[:200]}"

"""Ranges of a file behind http or https (RFC 9110, sections 13 and 14), with every answer held against the first one.

Each question after the first names the version that the first answer had (`If-Match`), so that a server which keeps to the
standard refuses by itself when the file changed. Whether it does or not, entity tag, date and size of each answer are compared.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from safeload.errors import RemoteError
from safeload.findings import escape
from safeload.remote.marks import mark_of
from safeload.remote.patience import Again, Patience, patiently, usual
from safeload.remote.ranges import CONNECTIONS, SMALL

__all__ = ["HttpRanges"]

_RANGE: Final = re.compile(r"bytes (?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19})")
_TRY_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_EXPIRED: Final = frozenset({401, 403, 404, 410})
_HOPS: Final = 5
_PIECE: Final = 64 << 10
_NO_RANGES: Final = "the server does not give ranges: it answers with the whole file"
_DOWNLOAD: Final = "fetch the file, and name its path"


class HttpRanges:
    """One file behind an address.

    Args:
        url: With whatever credentials belong to it.
        where: For messages.
        headers: Sent to the address's own host, and to no other that it redirects to.
        patience: How long to wait.

    Raises:
        FileNotFoundError, PermissionError: the server says so.
        RemoteError: it cannot be reached, gives no ranges, or says nothing usable.
    """

    def __init__(self, url: str, where: str, *, headers: Mapping[str, str] | None = None, patience: Patience | None = None) -> None:
        self._url, self._where, self._patience = url, where, patience or usual()
        self._headers = dict(headers or {})
        self._target = url  # where the last redirect led: asked first, as long as it answers
        self._session = requests.Session()
        adapter = HTTPAdapter(pool_connections=2, pool_maxsize=CONNECTIONS, max_retries=0)
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, adapter)
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.place: Mapping[str, str] = {}
        self._lock = threading.Lock()
        self._etag, self._modified = "", ""
        self.size = -1
        try:
            self.head = self.get(0, SMALL)
        except BaseException:
            self.close()
            raise

    @property
    def version(self) -> str:
        """The entity tag, or the date of the last change."""
        return self._etag or self._modified

    @property
    def mark(self) -> str:
        """By entity tag or date."""
        return mark_of(self._url, self.size, {"etag": self._etag, "last_modified": self._modified})

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def get(self, start: int, stop: int) -> bytes:
        """Return the bytes of a range; of the first one, as many as there are."""
        return patiently(lambda: self._attempt(start, stop), self._patience, f"{self._where}@{start}")

    # ---- one attempt

    def _attempt(self, start: int, stop: int) -> bytes:
        """Ask once. Library errors end here: their texts hold addresses."""
        deadline = time.monotonic() + self._patience.whole(stop - start)
        try:
            with self._answer(start, stop) as answer:
                return self._take(answer, start, stop, deadline)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            if isinstance(error, (FileNotFoundError, PermissionError)):
                raise
            failed = error
        why, hopeless = _described(failed)
        if hopeless:
            raise RemoteError(why, where=self._where)
        raise Again(why)

    def _answer(self, start: int, stop: int) -> requests.Response:
        """Follow redirects, but not from https to http."""
        url = self._target
        for hop in range(_HOPS + 1):
            answer = self._send(url, start, stop)
            if answer.status_code in _EXPIRED and hop == 0 and url != self._url:
                answer.close()  # a signed address of a store behind the server: it is good for a while only
                url = self._target = self._url
                continue
            if answer.status_code not in _MOVED:
                self._target = url
                return answer
            answer.close()
            leads = urljoin(url, answer.headers.get("Location", ""))
            before, after = urlsplit(url), urlsplit(leads)
            if after.scheme not in ("http", "https") or (before.scheme == "https" and after.scheme == "http"):
                raise RemoteError(f"redirects from {before.scheme} to {escape(after.scheme, 20) or 'nowhere'}", where=self._where)
            url = leads
        raise RemoteError(f"redirects more than {_HOPS} times", where=self._where)

    def _send(self, url: str, start: int, stop: int) -> requests.Response:
        # What is packed for the way is not the file: its ranges would be of something else.
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity", "User-Agent": "safeload"}
        if urlsplit(url)[:2] == urlsplit(self._url)[:2]:
            headers |= self._headers
        if self._etag and not self._etag.startswith("W/"):
            headers["If-Match"] = self._etag
        elif self._modified:
            headers["If-Unmodified-Since"] = self._modified
        timeout = (self._patience.connect, self._patience.stall)
        return self._session.get(url, headers=headers, timeout=timeout, stream=True, allow_redirects=False)

    # ---- one answer

    def _take(self, answer: requests.Response, start: int, stop: int, deadline: float) -> bytes:
        status = answer.status_code
        if status == 416 and start == 0 and (found := _RANGE.fullmatch(answer.headers.get("Content-Range", ""))) and int(found[3]) == 0:
            self._same(answer, 0)
            return b""
        if status == 200 and start == 0 and self.size in (-1, 0) and answer.headers.get("Content-Length") == "0":
            self._same(answer, 0)
            return b""
        if status != 206:
            raise self._refused(answer, status)
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise RemoteError("the server packs the answer although it was asked not to", where=self._where, hint=_DOWNLOAD)
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
        if found is None or found[1] is None:
            raise RemoteError("the server gives a part of the file and does not say which", where=self._where, hint=_DOWNLOAD)
        first, last, size = int(found[1]), int(found[2]), int(found[3])
        expected = min(stop, size)
        if first != start or last + 1 != expected:
            message = f"asked for bytes {start} to {stop - 1} of the file, got {first} to {last} of {size}"
            if self.size >= 0 and size != self.size:
                message = _changed("size", str(self.size), str(size))
            raise RemoteError(message, where=self._where)
        self._same(answer, size)
        return self._body(answer, expected - start, deadline)

    def _body(self, answer: requests.Response, nbytes: int, deadline: float) -> bytes:
        data = bytearray()
        # read1 gives what is there: read waits for all of a piece, however slowly it trickles in
        read = getattr(answer.raw, "read1", answer.raw.read)
        while len(data) < nbytes:
            piece = read(min(_PIECE, nbytes - len(data)), decode_content=False)
            if not piece:
                raise Again(f"the answer ended after {len(data)} of {nbytes} bytes")
            data += piece
            if time.monotonic() > deadline:
                raise Again(f"{len(data)} of {nbytes} bytes came in {self._patience.whole(nbytes):.0f} seconds")
        return bytes(data)

    def _same(self, answer: requests.Response, size: int) -> None:
        """Take the first answer's word for which version this is; hold every later one against it."""
        etag, modified = answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", "")
        with self._lock:
            if self.size < 0:
                self.size, self._etag, self._modified = size, etag, modified
                return
        pairs = (("size", str(self.size), str(size)), ("entity tag", self._etag, etag), ("date", self._modified, modified))
        for what, before, now in pairs:
            if before != now:
                raise RemoteError(_changed(what, before, now), where=self._where, hint="something replaced it: scan it again")

    def _refused(self, answer: requests.Response, status: int) -> Exception:
        """What an answer without the range means."""
        if status in _TRY_AGAIN:
            after = answer.headers.get("Retry-After", "")
            return Again(f"the server says {status}", float(after) if after.isdigit() and len(after) < 6 else None)
        if status == 412 and self.size >= 0:
            return RemoteError("the file changed while it was read (the server says 412)", where=self._where, hint="scan it again")
        if status == 200:
            etag = answer.headers.get("ETag", "")
            changed = self.size >= 0 and (etag != self._etag or answer.headers.get("Last-Modified", "") != self._modified)
            text = _changed("entity tag", self._etag, etag) if changed else _NO_RANGES
            return RemoteError(text, where=self._where, hint="scan it again" if changed else _DOWNLOAD)
        if self.size >= 0:
            return RemoteError(f"the server says {status} in the middle of the file", where=self._where)
        if status in (404, 410):
            return FileNotFoundError(2, f"not found (the server says {status})", self._where)
        if status in (401, 403, 407):
            return PermissionError(13, f"not permitted (the server says {status})", self._where)
        return RemoteError(f"the server says {status}", where=self._where)


def _changed(what: str, before: str, now: str) -> str:
    return f"the file changed while it was read: its {what} was {escape(before, 100) or 'none'} and is {escape(now, 100) or 'none'}"


def _described(error: Exception) -> tuple[str, bool]:
    """Say what went wrong in words of our own, and whether another attempt is pointless."""
    invalid = (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema)
    kinds: tuple[tuple[Any, str, bool], ...] = (
        (requests.exceptions.SSLError, "no trusted TLS connection: its certificate does not verify, or the handshake failed", True),
        (requests.exceptions.ProxyError, "the proxy does not connect", False),
        (requests.exceptions.ConnectTimeout, "no connection in time", False),
        (requests.exceptions.Timeout, "no answer in time", False),
        (requests.exceptions.ConnectionError, "no connection", False),
        (requests.exceptions.ChunkedEncodingError, "the connection broke off", False),
        (invalid, "not a valid address", True),
        (requests.RequestException, "the request failed", False),
        (ValueError, "not a valid address", True),  # also of a redirect
        ((TimeoutError, urllib3.exceptions.TimeoutError), "no answer in time", False),
    )
    return next(((text, hopeless) for kind, text, hopeless in kinds if isinstance(error, kind)), ("the connection broke off", False))

"""A web server on loopback that gives ranges, and misbehaves in every way that it is told to. Counts what it sends."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

__all__ = ["Served", "serve"]

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass
class Served:
    """One file, and how it is served.

    Attributes:
        content: Its bytes, or a path.
        etag, modified: Headers; "" leaves them out.
        ranges: False: every answer is the whole file.
        short: Bytes that are missing at the end of each answer's body.
        fail: Statuses for the first requests; 0 closes the connection, -1 says nothing for a while.
        redirect: Where to, or None.
        lie: Headers that replace what is right.
        conditional: Whether If-Match is kept to.
        change_after: After so many answers it is another file.
        change: What tells: "etag", "modified" or "size".
        slow: Seconds before each 100 bytes of a body.
        status: Instead of a file.
    """

    content: bytes | Path = b""
    etag: str = '"one"'
    modified: str = "Mon, 01 Jun 2026 00:00:00 GMT"
    ranges: bool = True
    short: int = 0
    fail: list[int] = field(default_factory=list)
    redirect: str | None = None
    lie: dict[str, str] = field(default_factory=dict)
    conditional: bool = True
    change_after: int | None = None
    change: str = "etag"
    slow: float = 0.0
    status: int | None = None
    sent: int = 0
    requests: list[dict[str, str]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def read(self, start: int, stop: int) -> bytes:
        if isinstance(self.content, bytes):
            return self.content[start:stop]
        with self.content.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: dict[str, Served]

    def do_GET(self) -> None:
        name = self.path.partition("?")[0]
        served = self.files.get(name)
        if served is None:
            self._answer(404, {}, b"<html>not found</html>")
            return
        served.requests.append({"path": self.path, **{key.lower(): value for key, value in self.headers.items()}})
        if served.fail:
            code = served.fail.pop(0)
            if code > 0:
                self._answer(code, {"Retry-After": "0"}, b"try again")
            else:
                time.sleep(1 if code else 0)
                self.close_connection = True
            return
        if served.redirect is not None:
            self._answer(302, {"Location": served.redirect}, b"")
        elif served.status is not None:
            self._answer(served.status, {}, b"no")
        else:
            self._file(served)

    def _file(self, served: Served) -> None:
        etag, modified, size = served.etag, served.modified, served.size
        if served.change_after is not None and len(served.requests) > served.change_after:
            etag = '"two"' if served.change == "etag" else etag
            modified = "Tue, 02 Jun 2026 00:00:00 GMT" if served.change == "modified" else modified
            size -= 1000 * (served.change == "size")
        if served.conditional and self.headers.get("If-Match", etag) != etag:
            self._answer(412, {}, b"")
            return
        headers = {"ETag": etag, "Last-Modified": modified}
        found = _RANGE.fullmatch(self.headers.get("Range", ""))
        if found is None or not served.ranges:
            self._answer(200, headers, served.read(0, min(served.size, 1 << 20)), served)
            return
        start, stop = int(found[1]), min(int(found[2]) + 1, size)
        if start >= size:
            self._answer(416, {**headers, "Content-Range": f"bytes */{size}"}, b"")
            return
        self._answer(206, {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"}, served.read(start, stop), served)

    def _answer(self, code: int, headers: dict[str, str], body: bytes, served: Served | None = None) -> None:
        self.send_response(code)
        for key, value in {"Content-Length": str(len(body)), **headers, **(served.lie if served is not None else {})}.items():
            if value:
                self.send_header(key, value)
        self.end_headers()
        if served is not None and served.short:
            body = body[: -served.short]
            self.close_connection = True
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(body), 100 if served is not None and served.slow else max(1, len(body))):
                if served is not None and served.slow:
                    time.sleep(served.slow)
                self.wfile.write(body[at : at + (100 if served is not None and served.slow else len(body))])
        if served is not None:
            served.sent += len(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


@contextlib.contextmanager
def serve(files: dict[str, Served]) -> Iterator[str]:
    """Serve files by their paths; yields the address, without a slash at its end."""
    handler = type("Handler", (_Handler,), {"files": files})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

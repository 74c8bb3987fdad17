"""A small server that speaks as much of the Hugging Face API as reading a repository takes, for there is none to be had.

`GET /api/models/ID[/revision/REV]`, `POST /api/models/ID/paths-info/REV`, `GET /api/models/ID/tree/REV`, and the files under
`/ID/resolve/REV/PATH`, which lead on to a store on another port, as the hub's large files do.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.range_server import Served, serve

__all__ = ["Repo", "hub"]

TOKEN = "hf_hunter2hunter2"


@dataclass
class Repo:
    """One repository: revisions, and the files of each commit.

    Attributes:
        revisions: Name → commit.
        commits: Commit → path → content.
        private: Whether a token is asked for.
        seen: Paths of requests, and whether they had the token.
    """

    revisions: dict[str, str]
    commits: dict[str, dict[str, bytes]]
    private: bool = False
    seen: list[tuple[str, bool]] = field(default_factory=list)

    def commit(self, revision: str) -> str | None:
        return self.revisions.get(revision) or (revision if revision in self.commits else None)


def _file(path: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    return {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest(),
            "lfs": {"oid": digest, "size": len(data), "pointerSize": 134}}  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    repos: dict[str, Repo]
    store: str
    stored: dict[str, Served]

    def do_GET(self) -> None:
        self._any(b"")

    def do_HEAD(self) -> None:
        self._any(b"")

    def do_POST(self) -> None:
        self._any(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def _any(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        words = [unquote(word) for word in parts.path.strip("/").split("/")]
        token = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        api = words[:2] == ["api", "models"]
        words = words[2:] if api else words
        repo = self.repos.get("/".join(words[:2]))
        if repo is not None:
            repo.seen.append((parts.path, token))
        if repo is None or (repo.private and not token):
            self._json(401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif api:
            self._api(repo, words[2:], body, parse_qs(parts.query))
        else:
            self._resolve(repo, words[2:])

    def _api(self, repo: Repo, words: list[str], body: bytes, query: dict[str, list[str]]) -> None:
        kind, revision = (words[0], words[1]) if words else ("revision", "main")
        commit = repo.commit(revision)
        if commit is None:
            self._json(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
            return
        files = repo.commits[commit]
        if kind == "revision":
            self._json(200, {"_id": "1", "id": "o/r", "sha": commit, "siblings": [{"rfilename": name} for name in files]})
        elif kind == "paths-info":
            text = body.decode()
            paths = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text)["paths"]
            self._json(200, [_file(path, files[path]) for path in paths if path in files])
        else:
            below = "/".join(words[2:])
            names = [name for name in sorted(files) if not below or name.startswith(f"{below}/")]
            folders = sorted({name.rpartition("/")[0] for name in names if "/" in name})
            listed = [{"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in folders]
            self._json(200, listed + [_file(name, files[name]) for name in names])

    def _resolve(self, repo: Repo, words: list[str]) -> None:
        commit = repo.commit(words[1]) if len(words) > 2 and words[0] == "resolve" else None
        data = repo.commits[commit].get("/".join(words[2:])) if commit is not None else None
        if data is None:
            self._json(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        name = f"/{hashlib.sha256(data).hexdigest()}"
        self.stored.setdefault(name, Served(data, etag=f'"{name[1:]}"'))
        self.send_response(302)
        for key, value in (("Location", f"{self.store}{name}?X-Amz-Signature=hunter2"), ("X-Repo-Commit", str(commit)),
                           ("X-Linked-Size", str(len(data))), ("X-Linked-Etag", f'"{name[1:]}"'), ("Content-Length", "0")):  # fmt: skip
            self.send_header(key, value)
        self.end_headers()

    def _json(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


@contextlib.contextmanager
def hub(repos: dict[str, Repo]) -> Iterator[tuple[str, dict[str, Served]]]:
    """Serve repositories; yields the endpoint and what the store behind it served."""
    stored: dict[str, Served] = {}
    with serve(stored) as store:
        handler = type("Handler", (_Handler,), {"repos": repos, "store": store.replace("127.0.0.1", "localhost"), "stored": stored})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", stored
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

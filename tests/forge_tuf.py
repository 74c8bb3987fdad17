"""A TUF repository in this process, served on loopback, and ways to serve it wrongly: for the tests of `safeload trust update`."""

from __future__ import annotations

import datetime as dt
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self

from securesystemslib.signer._crypto_signer import CryptoSigner
from tuf.api._payload import MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.metadata import Metadata

__all__ = ["ForgedTuf"]

TARGET: Final = "trusted_root.json"
_ROLES: Final = ("root", "targets", "snapshot", "timestamp")
_Role = Metadata[Root] | Metadata[Targets] | Metadata[Snapshot] | Metadata[Timestamp]


def _in(days: float) -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(days=days)


class ForgedTuf:
    """Serves inside `with`; `publish` makes a new version of everything.

    Attributes:
        files: Path → what is served; a test may change it.
        url: Where.
    """

    def __init__(self, target: bytes) -> None:
        self._keys = {role: CryptoSigner.generate_ecdsa() for role in _ROLES}
        self.files: dict[str, bytes] = {}
        self.url = ""
        self.version = 0
        self._root = Root(expires=_in(365), consistent_snapshot=True)
        for role, key in self._keys.items():
            self._root.add_key(key.public_key, role)
        self._sign_root([self._keys["root"]])
        self.publish(target)

    @property
    def bootstrap(self) -> bytes:
        """The first root."""
        return self.files["1.root.json"]

    def new_root(self, *, rotate: str | None = None) -> None:
        """Sign another root; `rotate` gives a role a new key, and the old root's key signs as well."""
        signers = [self._keys["root"]]
        if rotate is not None:
            self._root.revoke_key(self._keys[rotate].public_key.keyid, rotate)
            self._keys[rotate] = CryptoSigner.generate_ecdsa()
            self._root.add_key(self._keys[rotate].public_key, rotate)
            signers = list({id(key): key for key in (*signers, self._keys["root"])}.values())
        self._root.version += 1
        self._sign_root(signers)

    def _sign_root(self, signers: list[CryptoSigner]) -> None:
        document = Metadata(self._root)
        for key in signers:
            document.sign(key, append=True)
        self.files[f"{self._root.version}.root.json"] = document.to_bytes()

    def publish(self, target: bytes | None, *, days: float = 1, keys: dict[str, CryptoSigner] | None = None) -> None:
        """Serve `target` as the trusted root, or none; signed with other `keys` where a test forges."""
        self.version += 1
        signers = {**self._keys, **(keys or {})}
        targets = Targets(version=self.version, expires=_in(30))
        if target is not None:
            targets.targets[TARGET] = TargetFile.from_data(TARGET, target, ["sha256"])
            self.files[f"targets/{hashlib.sha256(target).hexdigest()}.{TARGET}"] = target
        snapshot = Snapshot(version=self.version, expires=_in(30), meta={"targets.json": MetaFile(version=self.version)})
        timestamp = Timestamp(version=self.version, expires=_in(days), snapshot_meta=MetaFile(version=self.version))
        documents: dict[str, _Role] = {
            f"{self.version}.targets.json": Metadata(targets), f"{self.version}.snapshot.json": Metadata(snapshot),
            "timestamp.json": Metadata(timestamp),
        }  # fmt: skip
        for name, document in documents.items():
            document.sign(signers[name.removesuffix(".json").rpartition(".")[2]])
            self.files[name] = document.to_bytes()

    def __enter__(self) -> Self:
        forged = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                data = forged.files.get(self.path.removeprefix("/"))
                self.send_response(404 if data is None else 200)
                self.send_header("content-length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

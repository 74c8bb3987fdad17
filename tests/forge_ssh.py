"""What an SSH key signs: keys in OpenSSH's form, signatures as `ssh-keygen -Y sign` writes them, and commits with such a signature."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from safeload.trust.git_commit import MEDIA_TYPE, object_id

__all__ = ["CURVES", "armored", "committed", "line_of", "new_key", "ssh_signature"]

CURVES: dict[str, ec.EllipticCurve | None] = {
    "ed25519": None, "p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1(),
}  # fmt: skip
Key = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def new_key(kind: str) -> Key:
    curve = CURVES[kind]
    return ed25519.Ed25519PrivateKey.generate() if curve is None else ec.generate_private_key(curve)


def line_of(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)) + b" me@host\n"


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def number(value: int) -> bytes:
    return string(value.to_bytes(value.bit_length() // 8 + 1, "big"))


def raw_signature(key: Key, data: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return string(b"ssh-ed25519") + string(key.sign(data))
    bits = key.curve.key_size
    hash_of: hashes.HashAlgorithm = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[bits]
    first, second = utils.decode_dss_signature(key.sign(data, ec.ECDSA(hash_of)))
    return string(b"ecdsa-sha2-nistp%d" % bits) + string(number(first) + number(second))


def armored(blob: bytes) -> bytes:
    text = base64.b64encode(blob)
    lines = [text[at : at + 70] for at in range(0, len(text), 70)]
    return b"-----BEGIN SSH SIGNATURE-----\n" + b"\n".join(lines) + b"\n-----END SSH SIGNATURE-----\n"


def ssh_signature(
    key: Key, message: bytes, *, namespace: bytes = b"git", algorithm: str = "sha512", version: int = 1, behind: bytes = b"",
    shown: Key | None = None,
) -> bytes:  # fmt: skip
    """What `ssh-keygen -Y sign` writes."""
    public = base64.b64decode(line_of(shown or key).split(b" ")[1])
    digest = hashlib.new(algorithm, message).digest()
    head = string(namespace) + string(b"") + string(algorithm.encode())
    made = raw_signature(key, b"SSHSIG" + head + string(digest))
    return armored(b"SSHSIG" + struct.pack(">I", version) + string(public) + head + string(made) + behind)


def committed(sign: Callable[[bytes], bytes], files: Mapping[str, bytes], *, wide: bool = False) -> tuple[dict[str, Any], str]:
    """A repository's one commit, with files at its top, and the commit's id."""
    ids = {name: object_id("blob", data, sha256=wide) for name, data in sorted(files.items())}
    tree = b"".join(b"100644 %s\0%s" % (name.encode(), bytes.fromhex(oid)) for name, oid in ids.items())
    payload = b"tree %s\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nrelease\n" % object_id("tree", tree, sha256=wide).encode()
    head, _, message = payload.partition(b"\n\n")
    name = b"gpgsig-sha256 " if wide else b"gpgsig "
    commit = head + b"\n" + name + sign(payload).strip().replace(b"\n", b"\n ") + b"\n\n" + message
    objects = [b"tree %d\0%s" % (len(tree), tree), *(b"blob %d\0%s" % (len(data), data) for data in files.values())]
    document = {"mediaType": MEDIA_TYPE, "commit": base64.b64encode(commit), "objects": [*map(base64.b64encode, objects)]}
    return json.loads(json.dumps(document, default=bytes.decode)), object_id("commit", commit, sha256=wide)

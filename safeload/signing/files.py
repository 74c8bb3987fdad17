"""Sign a file or a directory, and write the signature beside it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safeload.errors import SafeloadError, SignatureError, UsageError
from safeload.findings import escape
from safeload.signing.statements import file_digest, file_statement, model_statement
from safeload.signing.with_key import load_private_key, sign_digest, sign_statement
from safeload.source import Source

__all__ = ["Signed", "sign"]

_TIMEOUT: Final = 300.0
_LONGEST: Final = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What `sign` made.

    Attributes:
        path: What was signed.
        output: The signature.
        kind: As the lockfile calls it.
        signer: Who signed, as far as it is known here: a key's digest, an identity, a key name for gpg.
    """

    path: str
    output: Path
    kind: str
    signer: str


def sign(
    path: str | os.PathLike[str],
    *,
    key: str | os.PathLike[str] | None = None,
    passphrase: str | None = None,
    openpgp: str | None = None,
    token: str | None = None,
    trust_config: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> Signed:
    """Sign a file, or a directory as a model.

    Args:
        path: What to sign.
        key: A private key, PEM; without it and without `openpgp`, keyless.
        passphrase: Of the key.
        openpgp: A key that gpg knows; "" for its default key.
        token: keyless: an OIDC token; by default the one that the surrounding CI system gives.
        trust_config: keyless: a ClientTrustConfig file of a private instance; by default the public one.
        output: Where to write; by default beside a file (`.sigstore.json`, `.asc`), or `model.sig` in a directory.
        force: Overwrite the output.

    Raises:
        UsageError: there is nothing to sign, the output exists, or a key or token cannot be used.
        SafeloadError: signing failed.
    """
    target = Path(path)
    folder = target.is_dir()
    if not folder:
        target.stat()
    if openpgp is not None and folder:
        raise UsageError("OpenPGP signs a file: sign a SHA256SUMS list of the directory", where=escape(os.fspath(path), 1000))
    if openpgp is not None and (key is not None or token is not None):
        raise UsageError("choose one of key, token and openpgp")
    place = Path(output) if output is not None else _default(target, folder=folder, openpgp=openpgp is not None)
    if not force and os.path.lexists(place):
        raise UsageError("exists, and is not overwritten", where=escape(str(place), 1000), hint="--force overwrites it")
    if openpgp is not None:
        _gpg(target, openpgp, place)
        return Signed(path=os.fspath(path), output=place, kind="openpgp", signer=openpgp or "gpg's default key")
    if key is not None:
        data, who = _with_key(target, Path(key), passphrase, place, folder=folder)
    else:
        from safeload.signing.keyless import sign_keyless

        payload = model_statement(target, place) if folder else None
        data, who = sign_keyless(payload, None if folder else file_digest(target), token=token, trust_config=trust_config)
    _write(place, data, force=force)
    return Signed(path=os.fspath(path), output=place, kind="oms" if folder else "sigstore-blob", signer=who)


def _default(target: Path, *, folder: bool, openpgp: bool) -> Path:
    if folder:
        return target / "model.sig"
    return target.with_name(target.name + (".asc" if openpgp else ".sigstore.json"))


def _with_key(target: Path, key_path: Path, passphrase: str | None, place: Path, *, folder: bool) -> tuple[bytes, str]:
    from cryptography.hazmat.primitives.asymmetric import ec

    from safeload.trust.by_key import key_digest

    with Source.open(key_path) as source:
        if source.size > _LONGEST:
            raise UsageError(f"the private key has {source.size} bytes", where=source.name)
        key = load_private_key(source.read(0, source.size), passphrase)
    who = f"sha256:{key_digest(key.public_key())}"
    if folder:
        return sign_statement(key, model_statement(target, place)), who
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return sign_digest(key, file_digest(target)), who
    return sign_statement(key, file_statement(target)), who


def _gpg(target: Path, user: str, place: Path) -> None:
    """Let the user's gpg sign: its agent knows where the key is, on a card perhaps."""
    command = ["gpg", "--batch", "--yes", "--armor", "--detach-sign", "--output", os.fspath(place.absolute())]
    if user:
        command += ["--local-user", user]
    command += ["--", os.fspath(target.absolute())]
    try:
        done: Any = subprocess.run(command, capture_output=True, check=False, timeout=_TIMEOUT, stdin=subprocess.DEVNULL)  # noqa: S603
    except FileNotFoundError:
        raise SafeloadError("gpg is not installed", hint="install GnuPG, or sign with --key") from None
    except subprocess.TimeoutExpired:
        raise SafeloadError(f"gpg did not finish within {_TIMEOUT:g} seconds") from None
    if done.returncode:
        said = escape(done.stderr.decode("utf-8", "replace").strip().splitlines()[-1] if done.stderr.strip() else "", 300)
        raise SignatureError(f"gpg could not sign: {said}", where=escape(os.fspath(target), 1000))


def _write(place: Path, data: bytes, *, force: bool) -> None:
    with place.open("wb" if force else "xb") as file:
        file.write(data)

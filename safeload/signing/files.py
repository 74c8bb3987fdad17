"""Sign a file or a directory, and write the signature beside it."""

from __future__ import annotations

import os
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safeload.errors import SafeloadError, UsageError
from safeload.findings import escape
from safeload.signing.statements import file_digest, file_statement, model_digests, model_statement
from safeload.signing.with_key import load_chain, load_private_key, sign_digest, sign_statement, subject_of
from safeload.source import Source

__all__ = ["Signed", "sign"]

SUMS: Final = "SHA256SUMS"

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
    certificate: str | os.PathLike[str] | None = None,
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
        certificate: The key's certificate and those that lead from it to a company's root, PEM; who verifies pins the root.
        openpgp: A key that gpg knows; "" for its default key. Of a directory, a list of digests (`SHA256SUMS`) is made and signed.
        token: keyless: an OIDC token; by default the one that the surrounding CI system gives.
        trust_config: keyless: a ClientTrustConfig file of a private instance; by default the public one.
        output: Where to write; by default beside a file (`.sigstore.json`, `.asc`), or `model.sig` (`SHA256SUMS.asc`) in a directory.
        force: Overwrite the output.

    Raises:
        UsageError: there is nothing to sign, the output exists, or a key or token cannot be used.
        SafeloadError: signing failed.
    """
    target = Path(path)
    folder = target.is_dir()
    if not folder:
        target.stat()
    if sum(chosen is not None for chosen in (key, token, openpgp)) > 1:
        raise UsageError("choose one of key, token and openpgp")
    if certificate is not None and key is None:
        raise UsageError("a certificate goes with its key")
    place = Path(output) if output is not None else _default(target, folder=folder, openpgp=openpgp is not None)
    if not force and os.path.lexists(place):
        raise UsageError("exists, and is not overwritten", where=escape(str(place), 1000), hint="--force overwrites it")
    if openpgp is not None:
        signed = _listed(target, place, force=force) if folder else target
        try:
            _gpg(signed, openpgp, place)
        except SafeloadError:
            if folder:
                signed.unlink(missing_ok=True)
            raise
        kind = "openpgp-sha256sums" if folder else "openpgp"
        return Signed(path=os.fspath(path), output=place, kind=kind, signer=openpgp or "gpg's default key")
    if key is not None:
        data, who = _with_key(target, Path(key), passphrase, certificate, place, folder=folder)
    else:
        from safeload.signing.keyless import sign_keyless

        payload = model_statement(target, place) if folder else None
        data, who = sign_keyless(payload, None if folder else file_digest(target), token=token, trust_config=trust_config)
    _write(place, data, force=force)
    return Signed(path=os.fspath(path), output=place, kind="oms" if folder else "sigstore-blob", signer=who)


def _default(target: Path, *, folder: bool, openpgp: bool) -> Path:
    if folder:
        return target / (f"{SUMS}.asc" if openpgp else "model.sig")
    return target.with_name(target.name + (".asc" if openpgp else ".sigstore.json"))


def _listed(target: Path, place: Path, *, force: bool) -> Path:
    """Write the list of digests that is signed in the place of a directory, and return where it lies."""
    if place.suffix != ".asc":
        raise UsageError("the signature of a list is named as the list, with .asc", where=escape(str(place), 1000))
    listed = place.with_suffix("")
    digests = model_digests(target, leave_out=(listed, place))
    if any("\n" in name or "\\" in name for name in digests):
        raise UsageError("a list of digests cannot hold a name with a line end or a backslash", where=escape(str(target), 1000))
    if not force and os.path.lexists(listed):
        raise UsageError("exists, and is not overwritten", where=escape(str(listed), 1000), hint="--force overwrites it")
    _write(listed, "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode(), force=force)
    return listed


def _with_key(
    target: Path, key_path: Path, passphrase: str | None, certificate: str | os.PathLike[str] | None, place: Path, *, folder: bool
) -> tuple[bytes, str]:
    from cryptography.hazmat.primitives.asymmetric import ec

    from safeload.trust.by_key import key_digest

    key = load_private_key(_read(key_path, "the private key"), passphrase)
    who = f"sha256:{key_digest(key.public_key())}"
    chain: tuple[bytes, ...] = ()
    if certificate is not None:
        chain = load_chain(_read(Path(certificate), "the certificate"), key)
        who = subject_of(chain[0])
    if folder:
        return sign_statement(key, model_statement(target, place), chain), who
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return sign_digest(key, file_digest(target), chain), who
    return sign_statement(key, file_statement(target), chain), who


def _read(path: Path, what: str) -> bytes:
    with Source.open(path) as source:
        if source.size > _LONGEST:
            raise UsageError(f"{what} has {source.size} bytes", where=source.name)
        return source.read(0, source.size)


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
        raise SafeloadError(f"gpg could not sign: {said}", where=escape(os.fspath(target), 1000))


def _write(place: Path, data: bytes, *, force: bool) -> None:
    """Put a signature in place, whole or not at all."""
    if not force:
        with place.open("xb") as file:
            file.write(data)
        return
    spare = place.with_name(f".{place.name}.{secrets.token_hex(6)}")
    try:
        with spare.open("xb") as file:
            file.write(data)
        spare.replace(place)
    finally:
        spare.unlink(missing_ok=True)

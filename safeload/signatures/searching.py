"""Look for signatures that lie beside files, and say who signed, for a person to review. Nothing here decides about a load."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from safeload.errors import MissingExtraError, SignatureError
from safeload.findings import escape
from safeload.lockfile import LockedFile, Lockfile, Model, SignatureRef, Signer, TrustRoot, path_problem
from safeload.lockfile.data import SignatureKind
from safeload.signatures.checking import ABOUT_ONE
from safeload.signatures.material import Materials, SignedBytes, anchor_of, artifact_of, read_small
from safeload.source import Source
from safeload.trust.builtin_roots import PUBLIC_GOOD, builtin_roots
from safeload.trust.bundle import Bundle, parse_bundle
from safeload.trust.git_commit import MEDIA_TYPE, commit_signer
from safeload.trust.model_list import OLD_TYPES, PREDICATE_TYPE
from safeload.trust.openpgp_sums import CLEAR_SIGNED
from safeload.trust.pypi import bundles_of
from safeload.trust.scheme import Anchor, Terms, Verified, guarded
from safeload.trust.schemes import verify
from safeload.trust.sigstore_blob import PREDICATE_TYPE as PLAIN
from safeload.trust.statement import PAYLOAD_TYPE

__all__ = ["DEFAULT_ROOT", "Candidate", "default_root", "found_beside", "kind_of", "named_signers", "odd_beside", "signer_kinds"]

DEFAULT_ROOT: Final = "default"
_BESIDE_FILE: Final = (
    ".sigstore.json", ".sigstore", ".asc", ".sig", ".gpg", ".provenance.json", ".git-commit.json",
    ".provenance", ".publish.attestation", ".slsa.attestation", ".attestation",
)  # fmt: skip
_IN_FOLDER: Final = (
    "model.sig", "model.sigstore.json", ".kaggle/signing.json", "skill.oms.sig", "SHA256SUMS.asc", "SHA256SUMS.sig", "SHA256SUMS.gpg",
    "SHA256SUMS.txt.asc", "sha256sums.txt.asc", "git-commit.json",
)  # fmt: skip
_OTHERS: Final = ("identity", "issuer", "key", "chain")
_ENDINGS: Final = (".sig", ".sigstore", ".sigstore.json", ".oms")
_MOST_BUNDLES: Final = 100
_SLUG: Final = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A file that looks like a signature.

    Attributes:
        path: As the lockfile calls it.
        kind: What it seems to be.
        sha256: Of it.
        data: Its bytes.
        about: The one file that it lies beside, or None when it is about the model.
    """

    path: str
    kind: SignatureKind
    sha256: str
    data: bytes
    about: str | None = None

    def ref(self, signer: str) -> SignatureRef:
        """What the lock says about it."""
        return SignatureRef(signer=signer, kind=self.kind, bundle=self.path, bundle_sha256=self.sha256)


def found_beside(model: Model, materials: Materials) -> list[Candidate]:
    """Return what looks like a signature beside a model's files, in its directory, or stored in the lock already."""
    places = _places(model)
    named = set(places)
    for place in _bundles_in(materials.base, model.directory):
        places.setdefault(place, None)
    found = []
    for place, about in places.items():
        if path_problem(place) is None and (materials.base / place).is_file():
            try:
                candidate = _candidate(place, about, materials)
            except SignatureError:
                continue
            # Under a name of no meaning, what says itself that it is about a whole model.
            if place in named or candidate.kind == "oms":
                found.append(candidate)
    return found


def odd_beside(model: Model, materials: Materials) -> list[tuple[str, str]]:
    """Return what is named like a signature and is none that is known here, and why: it must not be passed over in silence."""
    found = []
    for place, about in _places(model).items():
        if path_problem(place) is None and (materials.base / place).is_file():
            try:
                _candidate(place, about, materials)
            except SignatureError as error:
                found.append((place, error.message))
    return found


def _places(model: Model) -> dict[str, str | None]:
    """Where a model's signatures lie → the one file that each would be about, or None."""
    places: dict[str, str | None] = {}
    folders = dict.fromkeys([model.directory, *(posixpath.dirname(file.path) for file in model.files)])
    # These first: the signature of a list of digests is about the model, although the list may be a locked file of it.
    for folder in folders:
        for name in _IN_FOLDER:
            places.setdefault(f"{folder}/{name}" if folder else name, None)
    for file in model.files:
        for ending in _BESIDE_FILE:
            places.setdefault(file.path + ending, file.path)
    for ref in model.signatures:
        places.setdefault(ref.bundle, None)
    return places


def _bundles_in(base: Path, folder: str) -> list[str]:
    """Return the files at a model's top that may be model signatures by their ending; publishers name them as they like."""
    try:
        entries = sorted(entry.name for entry in os.scandir(base / folder) if entry.name.endswith(_ENDINGS))
    except OSError:
        return []
    return [f"{folder}/{name}" if folder else name for name in entries[:_MOST_BUNDLES]]


def _candidate(place: str, about: str | None, materials: Materials) -> Candidate:
    data = read_small(materials.base / place, "a signature")
    kind = kind_of(data, Path(place).name, about)
    if kind is None:
        raise SignatureError("it is no signature of a kind that is known here", check="format")
    return Candidate(path=place, kind=kind, sha256=hashlib.sha256(data).hexdigest(), data=data, about=about)


def kind_of(data: bytes, name: str, about: str | None) -> SignatureKind | None:
    """Guess what a stored signature is; a wrong guess fails to verify and does no more harm."""
    head = data.lstrip()[:64]
    if head.startswith(b"{"):
        return _json_kind(data)
    if head.startswith(CLEAR_SIGNED):
        return "openpgp-sha256sums"
    if head.startswith(b"-----BEGIN PGP SIGNATURE-----") or (data[:1] >= b"\x80" and name.endswith((".sig", ".gpg"))):
        return "openpgp" if about is not None else "openpgp-sha256sums"
    return None


def _json_kind(data: bytes) -> SignatureKind | None:
    if MEDIA_TYPE.encode() in data[:4096]:
        return "git-commit"
    bundles = bundles_of(data)
    if bundles != (data,):
        return "slsa-provenance"
    bundle = parse_bundle(data)
    if bundle.envelope is None:
        return "sigstore-blob"
    predicate = _predicate_type(bundle)
    if predicate == PREDICATE_TYPE or predicate in OLD_TYPES:
        return "oms"
    return "sigstore-blob" if predicate == PLAIN else "slsa-provenance"


def _predicate_type(bundle: Bundle) -> str:
    envelope = bundle.need_envelope()
    if envelope.payload_type != PAYLOAD_TYPE:
        return ""
    try:
        found = json.loads(envelope.payload)
    except (ValueError, RecursionError):
        return ""
    value = found.get("predicateType") if isinstance(found, dict) else None
    return value if isinstance(value, str) else ""


def signer_kinds(candidate: Candidate) -> tuple[str, ...]:
    """Which kinds of signers can have made it."""
    if candidate.kind in ("openpgp", "openpgp-sha256sums"):
        return ("openpgp",)
    try:
        if candidate.kind == "git-commit":
            return (commit_signer(candidate.data)[0],)
        bundle = parse_bundle(bundles_of(candidate.data)[0])
    except SignatureError:
        return ()
    if not bundle.certificates:
        return ("key",)
    return ("sigstore", "x509") if bundle.logged else ("x509",)


def default_root(lock: Lockfile) -> tuple[TrustRoot, ...]:
    """The sigstore roots that a signer who is not known yet may be under: those of the lock, and the public one."""
    held = {root.sha256: root for root in reversed(lock.trust_roots) if root.kind == "sigstore"}
    carried = builtin_roots(PUBLIC_GOOD)
    if carried and not held.keys() & carried.keys():
        name = DEFAULT_ROOT if all(root.name != DEFAULT_ROOT for root in lock.trust_roots) else PUBLIC_GOOD
        current = TrustRoot(name=name, kind="sigstore", path=f"builtin:{PUBLIC_GOOD}", sha256=next(iter(carried)))
        return (*reversed(held.values()), current)
    return tuple(reversed(held.values()))


def named_signers(
    lock: Lockfile, model: Model, candidate: Candidate, materials: Materials, terms: Terms
) -> tuple[list[tuple[Signer, TrustRoot | None, Verified]], list[str]]:
    """Say who made a signature over a model's files: a known signer, else whoever it is, for review.

    Returns:
        (signer, trust root to add for it, who it was), and why it counts for nobody. A signer whose name is not in the
        lock is new: trust on first use.
    """
    kinds = signer_kinds(candidate)
    problems: dict[str, str] = {}
    for signer in lock.signers:
        if signer.kind in kinds:
            try:
                verified = _verify_all(lock, signer, model, candidate, materials, terms)
            except (SignatureError, MissingExtraError) as error:
                problems[f"{signer.name}: {error.message}"] = _check_of(error)
            else:
                return [(signer, None, verified)], []
    if "sigstore" in kinds:
        for root in default_root(lock):
            stranger = Signer(name="", kind="sigstore", trust_root=root.name)
            held = replace(lock, trust_roots=(root,))
            try:
                verified = _verify_all(held, stranger, model, candidate, materials, terms, anyone=True)
            except (SignatureError, MissingExtraError) as error:
                problems[error.message] = _check_of(error)
                continue
            named = replace(stranger, name=_free_name(lock, verified), issuer=verified.issuer, identity=verified.identity)
            return [(named, root, verified)], []
    # That it is not another signer's is of interest only when it is nobody's that is known.
    shown = [text for text, check in problems.items() if check not in _OTHERS]
    if not shown:
        nobody = f"no signer of kind {' or '.join(kinds) or 'any'} is in the lockfile: add one with 'safeload trust add'"
        shown = [*(problems or [nobody]), *filter(None, [_claim(candidate)])]
    return [], shown


def _check_of(error: SignatureError | MissingExtraError) -> str:
    return error.check if isinstance(error, SignatureError) else ""


def _claim(candidate: Candidate) -> str:
    """What an unverified signature says of its signer, for a person who looks for the signer's key; nothing is believed of it."""
    try:
        with guarded("format", "the claim cannot be read"):
            if candidate.kind == "git-commit":
                name = commit_signer(candidate.data)[1]
                return f"it claims to be of {name}" if name else ""
            bundle = parse_bundle(bundles_of(candidate.data)[0])
            if bundle.key_hint:
                return f"it claims to be of the key sha256:{escape(bundle.key_hint, 64)}"
            if bundle.certificates:
                from cryptography import x509

                if bundle.logged and not bundle.chain:  # keyless: whoever it is was verified, or it says why not
                    return ""
                leaf, last = (x509.load_der_x509_certificate(bundle.certificates[at]) for at in (0, -1))
                who, under = (escape(name.rfc4514_string(), 200) for name in (leaf.subject, last.issuer))
                return f"it claims to be of {who} under {under}"
    except SignatureError:  # only ever an aid: what is odd about it is for verification to say
        pass
    return ""


def _verify_all(
    lock: Lockfile, signer: Signer, model: Model, candidate: Candidate, materials: Materials, terms: Terms, *, anyone: bool = False
) -> Verified:
    """Verify for every file that the signature is about."""
    anchor = replace(anchor_of(lock, signer, materials), any_identity=anyone)
    ref = candidate.ref(signer.name)
    companion = materials.beside(candidate.path) if candidate.kind == "openpgp-sha256sums" else None
    about_one = candidate.kind in ABOUT_ONE
    own = {signature.bundle for signature in model.signatures} | {candidate.path}
    files = [file for file in model.files if file.path not in own and (candidate.about in (None, file.path) or not about_one)]
    if candidate.kind in ("oms", "git-commit", "openpgp-sha256sums"):
        weights = {file.path for file in model.weights}
        files = [file for file in files if file.path in weights] or files
    problem: SignatureError | None = None
    found: Verified | None = None
    for file in files:
        try:
            found = _verify_one(model, file, ref, candidate, anchor=anchor, materials=materials, terms=terms, companion=companion)
        except SignatureError as error:
            problem = error
            if not about_one:
                raise
        else:
            if about_one:
                return found
    if found is None or problem is not None:
        raise problem or SignatureError("it is about none of the model's files", check="coverage")
    return found


def _verify_one(
    model: Model, file: LockedFile, ref: SignatureRef, candidate: Candidate, *, anchor: Anchor, materials: Materials, terms: Terms,
    companion: bytes | None,
) -> Verified:  # fmt: skip
    from safeload.signatures.result_cache import key_of, lookup, remember

    with _opened(materials.base / file.path) as source:
        data = SignedBytes(file, source)
        artifact = artifact_of(model, file, ref, data=data, companion=companion)
        key = key_of(ref.kind, artifact, candidate.data, anchor, terms)
        known = lookup(key, disk=False)
        if known is not None:
            return known
        verified = verify(ref.kind, artifact, candidate.data, anchor, terms)
        data.close()
        remember(key, verified, disk=False)
        return verified


def _opened(path: Path) -> Source:
    try:
        return Source.open(path)
    except OSError as error:
        raise SignatureError(f"the file cannot be opened: {error.strerror or error}", check="content") from error


def _free_name(lock: Lockfile, verified: Verified) -> str:
    """A name for a signer: the repository of a workflow, or the name before "@"."""
    text = verified.identity
    text = text.split("/.github/", 1)[0].split("@", 1)[0].split("://", 1)[-1]
    parts = [part for part in text.split("/") if part]
    base = _SLUG.sub("-", "-".join(parts[-2:]).lower()).strip("-")[:60] or "signer"
    taken = {signer.name for signer in lock.signers}
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    return name

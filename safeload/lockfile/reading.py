"""Read a lockfile: find it, parse it, and refuse whatever is not exactly a lockfile.

A lock that was torn is an error, never an empty lock: `lock-version` is mandatory, and a lock that safeload wrote says
in its head that it ends with `[end]`, so a truncation between two blocks is noticed as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final, cast, get_args

from safeload.errors import LockfileError, warn
from safeload.findings import escape
from safeload.lock_place import LOCK_NAME, find
from safeload.lockfile.data import (
    LOCK_VERSION,
    Converted,
    LockedFile,
    Lockfile,
    Model,
    ModelSource,
    SignatureKind,
    SignatureRef,
    Signer,
    SignerKind,
    SourceKind,
    TrustRoot,
    TrustRootKind,
)
from safeload.policy import SignerRule, denied_reason
from safeload.policy.file import signer_rule
from safeload.remembered import Remembered
from safeload.toml_table import Table, parse_toml, read_bytes

__all__ = ["LOCK_NAME", "find", "loads", "parse", "path_problem", "read"]

_MAX_BYTES: Final = 64 << 20
_PARSED: Final[Remembered[Lockfile]] = Remembered(most=4, longest=16 << 20)
_LONGEST_PATH: Final = 4_096
_VERSION: Final = re.compile(r"(\d{1,9})\.(\d{1,9})", re.ASCII)
_DRIVE: Final = re.compile(r"[A-Za-z]:", re.ASCII)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
_MANIFEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
_FINGERPRINT: Final = re.compile(r"[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64}", re.ASCII)
_OID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]{0,9})){1,20}", re.ASCII)
_FORMAT: Final = re.compile(r"[a-z0-9][a-z0-9+.-]{0,63}", re.ASCII)
_BUILTIN: Final = re.compile(r"builtin:[a-z0-9][a-z0-9-]{0,63}", re.ASCII)

_SIGNER_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "sigstore": ("trust-root", "issuer", "identity"),
    "openpgp": ("fingerprint", "certificate", "certificate-sha256"),
    "key": ("public-key", "public-key-sha256"),
    "x509": ("certificate", "certificate-sha256", "subject"),
}


def read(path: str | os.PathLike[str]) -> Lockfile:
    """Read a lockfile. The same bytes at the same place are parsed once.

    Raises:
        LockfileError: it is torn, of another major version, or contradicts itself; the message names the key path.
        FileNotFoundError, IsADirectoryError, PermissionError: as `open` does.
    """
    name = os.fspath(path)
    raw = read_bytes(name, LockfileError, max_bytes=_MAX_BYTES)
    held = _PARSED.of(name, raw, lambda data: loads(data, where=escape(name, 1000)))
    if held.version != LOCK_VERSION:
        _PARSED.forget(name)  # so that the warning is given each time
    return held


def loads(data: bytes | str, *, where: str = LOCK_NAME) -> Lockfile:
    """Read a lockfile from memory; raises as `read` does."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return parse(parse_toml(raw, where, LockfileError), where=where)


def parse(data: Mapping[str, object], *, where: str = LOCK_NAME) -> Lockfile:
    """Check parsed TOML and make a `Lockfile` of it; raises as `read` does."""
    top = Table(data, LockfileError, where=where)
    version = _version(top)
    _check_end(top)
    created_by = top.maybe_text("created-by") or "unknown"
    roots = tuple(_trust_root(name, table) for name, table in top.named_tables("trust-root"))
    signers = tuple(_signer(name, table, {root.name for root in roots}) for name, table in top.named_tables("signer"))
    known = frozenset(signer.name for signer in signers)
    places: dict[str, str] = {}
    models = tuple(_model(table, known, places) for table in top.tables("model"))
    top.close()
    return Lockfile(version=version, created_by=created_by, trust_roots=roots, signers=signers, models=models)


def _version(top: Table) -> str:
    text = top.text("lock-version")
    found = _VERSION.fullmatch(text)
    if found is None:
        raise top.fail("lock-version", f"MAJOR.MINOR is needed, not '{escape(text, 40)}'")
    major, minor = LOCK_VERSION.split(".")
    if found[1] != major:
        raise top.fail(
            "lock-version", f"version {text} is not understood, only {major}.x", "use the safeload that wrote it, or a newer one"
        )
    if found[2] != minor:
        # A minor version may add keys, and their meaning is not known here: say so, and go on without them.
        warn(f"{top.where}: version {text}, and this safeload knows {LOCK_VERSION}: what is new is ignored")
        top.strict = False
    return text


def _check_end(top: Table) -> None:
    if not top.has("ends-with"):
        if "end" in top:
            raise top.fail("ends-with", "missing, though there is an [end]")
        return
    end = top.text("ends-with")
    if end != "end":
        raise top.fail("ends-with", f"'end' is needed, not '{escape(end, 40)}'")
    if "end" not in top:
        raise top.fail("end", "missing: the lockfile ends too early", "restore it from version control, or run 'safeload lock' again")
    top.table("end").close()


# ---- the parts


def _trust_root(name: str, table: Table) -> TrustRoot:
    _check_name(name, table)
    kind = cast("TrustRootKind", table.choice("kind", get_args(TrustRootKind)))
    path = table.text("path")
    if path.startswith("builtin:"):
        if not _BUILTIN.fullmatch(path):
            raise table.fail("path", f"'{escape(path, 80)}' names no trust root that safeload carries")
    else:
        path = _path(table, "path")
    root = TrustRoot(name=name, kind=kind, path=path, sha256=table.sha256("sha256"))
    table.close()
    return root


def _signer(name: str, table: Table, roots: set[str]) -> Signer:
    _check_name(name, table)
    kind = cast("SignerKind", table.choice("kind", get_args(SignerKind)))
    values: dict[str, Any] = {}
    for key in _SIGNER_KEYS[kind]:
        if key.endswith("sha256"):
            value = table.sha256(key)
        elif key in ("certificate", "public-key"):
            value = _path(table, key)
        else:
            value = table.text(key)
        values[key.replace("-", "_")] = value
    if kind == "sigstore":
        if values["trust_root"] not in roots:
            raise table.fail("trust-root", f"there is no [trust-root.{escape(values['trust_root'], 80)}]")
        if "*" in values["identity"]:
            raise table.fail("identity", "an identity is exact here: patterns live in policy only")
    if kind == "x509" and (eku := table.maybe_text("eku")) is not None:
        if not _OID.fullmatch(eku):
            raise table.fail("eku", f"a dotted object identifier is needed, not '{escape(eku, 80)}'")
        values["eku"] = eku
    if kind == "openpgp" and not _FINGERPRINT.fullmatch(values["fingerprint"]):
        raise table.fail("fingerprint", "the full primary fingerprint is needed (40 or 64 hex digits): a key id can be forged")
    table.close()
    return Signer(name=name, kind=kind, **values)


def _model(table: Table, signers: frozenset[str], places: dict[str, str]) -> Model:
    """Read one model. `places` maps every path, and every name behind "//", to where it was first named."""
    name = table.text("name")
    _only_once(table, "name", f"//{name}", places, f"a second model '{escape(name, 80)}'")
    complete = table.flag("complete", default=False)
    require = table.maybe_table("require")
    rule = None if require is None else _require(require, signers)
    origin = table.maybe_table("source")
    source = None if origin is None else _source(origin)
    files = tuple(_file(entry, places) for entry in table.tables("file"))
    signatures = tuple(_signature(entry, signers) for entry in table.tables("signature"))
    table.close()
    if not files:
        raise table.fail("file", "missing: a model without files pins nothing")
    if len(set(signatures)) != len(signatures):
        raise table.fail("signature", "the same signature stands there twice")
    return Model(name=name, files=files, complete=complete, require=rule, source=source, signatures=signatures)


def _require(table: Table, signers: frozenset[str]) -> SignerRule:
    rule = signer_rule(table)
    for key, names in (("all", rule.all), ("any", rule.any)):
        for index, name in enumerate(names):
            if name not in signers:
                raise table.fail_item(key, index, f"there is no [signer.{escape(name, 80)}]")
    return rule


def _source(table: Table) -> ModelSource:
    kind = cast("SourceKind", table.choice("kind", get_args(SourceKind)))
    by_commit = kind in ("huggingface", "git")
    repo = table.text("repo") if by_commit or kind == "oci" else table.maybe_text("repo")
    url = table.maybe_text("url")
    requested, revision = table.maybe_text("requested"), table.maybe_text("revision")
    table.close()
    if by_commit and not (revision and _COMMIT.fullmatch(revision)):
        raise table.fail("revision", "a full commit id is needed (40 or 64 lower-case hex digits): branches and tags move")
    if kind == "oci" and not (revision and _MANIFEST.fullmatch(revision)):
        raise table.fail("revision", "a manifest digest is needed (sha256:hex): tags move")
    if kind == "https" and not (url or repo or "").startswith("https://"):
        raise table.fail("url", "an https:// address is needed")
    return ModelSource(kind=kind, repo=repo, url=url, requested=requested, revision=revision)


def _file(table: Table, places: dict[str, str]) -> LockedFile:
    path = _path(table, "path")
    _only_once(table, "path", path, places, "the same path")
    size = table.size("size")
    sha256, tree = table.sha256("sha256"), table.maybe_sha256("sha256-tree")
    format_name = table.maybe_text("format")
    if format_name is not None and not _FORMAT.fullmatch(format_name):
        raise table.fail("format", f"'{escape(format_name, 80)}' is not the name of a format")
    asked = table.maybe_texts("globals")
    granted = table.maybe_texts("allow-globals") or ()
    for index, name in enumerate(granted):
        if reason := denied_reason(name):
            raise table.fail_item("allow-globals", index, f"'{escape(name, 100)}' can never be granted: {reason}")
    made = table.maybe_table("converted")
    converted = None
    if made is not None:
        converted = Converted(path=_path(made, "path"), sha256=made.sha256("sha256"), sha256_tree=made.maybe_sha256("sha256-tree"))
        _only_once(made, "path", converted.path, places, "the same path")
        made.close()
    table.close()
    return LockedFile(
        path=path, size=size, sha256=sha256, sha256_tree=tree, format=format_name,
        globals=asked, allow_globals=granted, converted=converted,
    )  # fmt: skip


def _signature(table: Table, signers: frozenset[str]) -> SignatureRef:
    signer = table.text("signer")
    if signer not in signers:
        raise table.fail("signer", f"there is no [signer.{escape(signer, 80)}]")
    kind = cast("SignatureKind", table.choice("kind", get_args(SignatureKind)))
    signature = SignatureRef(signer=signer, kind=kind, bundle=_path(table, "bundle"), bundle_sha256=table.sha256("bundle-sha256"))
    table.close()
    return signature


# ---- single values


def _check_name(name: str, table: Table) -> None:
    if not name or not name.isprintable():
        raise table.fail("", "a name is empty or does not print")


def _only_once(table: Table, key: str, what: str, places: dict[str, str], message: str) -> None:
    """Refuse `what` when it was named before, and say where."""
    if what in places:
        raise table.fail(key, f"{message} as in {places[what]}")
    places[what] = table.at(key)


def _path(table: Table, key: str) -> str:
    path = table.text(key)
    if problem := path_problem(path):
        raise table.fail(key, f"'{escape(path, 200)}' {problem}")
    return path


def path_problem(path: str) -> str | None:
    """Say why a path may not stand in a lockfile, or None: relative, "/" between parts, never outside the directory."""
    if not path or len(path) > _LONGEST_PATH:
        return f"has {len(path)} characters, not 1 to {_LONGEST_PATH}"
    if "\\" in path:
        return 'holds a backslash: "/" separates parts'
    if path.startswith("/") or _DRIVE.match(path):
        return "is not relative to the lockfile"
    parts = path.split("/")
    if ".." in parts:
        return "leaves the lockfile's directory"
    if "" in parts or "." in parts:
        return "has an empty part or a '.'"
    return None

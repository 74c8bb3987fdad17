"""Find and read the policy that people wrote: `safeload.toml`, or `[tool.safeload]` in `pyproject.toml`.

It is looked for from the working directory upwards and never where the model lies: whoever ships the model must not
ship its policy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from safeload.errors import PolicyError
from safeload.findings import escape
from safeload.lock_place import upwards
from safeload.policy.data import CHOICES, Policy, Rule, SignerRule, Suppression
from safeload.policy.signing import IDENTITY_KEYS, IdentityRule, LockSigner, LockSignerKind, ProvenanceRule
from safeload.remembered import Remembered
from safeload.rules import RULES

if TYPE_CHECKING:
    from safeload.toml_table import Table

__all__ = ["load_policy", "parse_policy", "read_policy", "signer_rule"]

_MAX_BYTES: Final = 16 << 20
_OWN: Final = "safeload.toml"
_SHARED: Final = "pyproject.toml"
_PARSED: Final[Remembered[Policy | None]] = Remembered(most=16, longest=1 << 20)


def load_policy(start: str | os.PathLike[str] | None = None) -> Policy:
    """Return the nearest policy from a directory upwards, or the default one.

    In one directory `safeload.toml` wins. A `pyproject.toml` without `[tool.safeload]` is passed by.

    Args:
        start: The working directory by default. Never pass where a model lies.

    Raises:
        PolicyError: the file that was found is not valid.
        PermissionError: a file is there and may not be read; it is not passed by in silence.
    """
    for place in upwards(start):
        for name in (_OWN, _SHARED):
            path = os.path.join(place, name)
            try:
                os.stat(path)  # what reads TOML is not imported to find out that there is none
                policy = _read(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if policy is not None:
                return policy
    return Policy()


def read_policy(path: str | os.PathLike[str]) -> Policy:
    """Read one policy file that was named.

    Raises:
        PolicyError: it is not valid, or a `pyproject.toml` without `[tool.safeload]`.
        FileNotFoundError, IsADirectoryError, PermissionError: as `open` does.
    """
    policy = _read(os.fspath(path))
    if policy is None:
        raise PolicyError("has no [tool.safeload]", where=escape(os.fspath(path), 1000))
    return policy


def _read(path: str) -> Policy | None:
    """Read one file; None for a pyproject that says nothing about us. The same bytes at the same place are parsed once."""
    from safeload.toml_table import read_bytes

    origin = os.path.abspath(path)
    raw = read_bytes(path, PolicyError, max_bytes=_MAX_BYTES)
    return _PARSED.of((path, origin), raw, lambda data: _parsed(path, origin, data))


def _parsed(path: str, origin: str, raw: bytes) -> Policy | None:
    from safeload.toml_table import Table, parse_toml

    where = escape(path, 1000)
    data = parse_toml(raw, where, PolicyError)
    if os.path.basename(path) != _SHARED:
        return _policy(Table(data, PolicyError, where=where), origin)
    tool = Table(data, PolicyError, where=where).maybe_table("tool")
    mine = tool.maybe_table("safeload") if tool is not None else None
    return None if mine is None else _policy(mine, origin)


def parse_policy(keys: Mapping[str, Any], *, where: str = "policy") -> Policy:
    """Make a policy of plain data, with the keys of `safeload.toml`.

    Raises:
        PolicyError: a key or a value is not known; the message has the key path.
    """
    from safeload.toml_table import Table

    if not isinstance(keys, Mapping):
        raise PolicyError(f"a table is needed, not {type(keys).__name__}", where=where)
    return _policy(Table(dict(keys), PolicyError, where=where), None)


def _policy(table: Table, origin: str | None) -> Policy:
    values: dict[str, Any] = _words(table)
    values["allow_globals"] = _grants(table)
    values["ignore_paths"] = table.maybe_texts("ignore-paths") or ()
    values["identities"] = tuple(_identity(name, entry) for name, entry in table.named_tables("signer"))
    lock_signer = table.maybe_table("lock-signer")
    values["lock_signer"] = None if lock_signer is None else _lock_signer(lock_signer)
    values["rules"] = tuple(_rule(entry) for entry in table.tables("rule"))
    values["suppress"] = tuple(_suppression(entry) for entry in table.tables("suppress"))
    table.close()
    return Policy(**values, origin=origin)


def _words(table: Table) -> dict[str, Any]:
    """Read every key that takes one of a few words; those that are not there stay out."""
    found = {key.replace("-", "_"): table.maybe_choice(key, words) for key, words in CHOICES.items()}
    return {key: value for key, value in found.items() if value is not None}


def _grants(table: Table) -> tuple[str, ...]:
    from safeload.denied import denied_reason

    names = table.maybe_texts("allow-globals") or ()
    for index, name in enumerate(names):
        if reason := denied_reason(name):
            raise table.fail_item("allow-globals", index, f"'{escape(name, 100)}' can never be granted: {reason}")
    return names


def _rule(table: Table) -> Rule:
    models = table.text("models")
    signers = table.maybe_table("signers")
    provenance = table.maybe_table("provenance")
    rule = Rule(
        models=models, signers=None if signers is None else signer_rule(signers),
        provenance=None if provenance is None else _provenance(provenance), ignore_paths=table.maybe_texts("ignore-paths") or (),
        allow_globals=_grants(table), **_words(table),
    )  # fmt: skip
    table.close()
    return rule


def _provenance(table: Table) -> ProvenanceRule:
    """Read `{ builder = …, repository = …, ref = … }`."""
    found = {key: table.maybe_text(key) for key in ("builder", "repository", "ref")}
    table.close()
    if not any(found.values()):
        raise table.fail("", "builder, repository or ref is needed: it would demand nothing")
    return ProvenanceRule(**found)


def _identity(name: str, table: Table) -> IdentityRule:
    """Read `[signer.NAME]`: what the lockfile's signer of that name must be."""
    found = {key.replace("-", "_"): table.maybe_text(key) for key in IDENTITY_KEYS}
    table.close()
    if not any(found.values()):
        raise table.fail("", f"one of {', '.join(IDENTITY_KEYS)} is needed: it would demand nothing")
    if (found["subject"] is not None or found["eku"] is not None) and found["certificate_sha256"] is None:
        raise table.fail("subject" if found["subject"] is not None else "eku", "goes with certificate-sha256: any authority can issue it")
    return IdentityRule(name=name, **found)


_LOCK_SIGNER_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "key": ("public-key", "public-key-sha256"),
    "sigstore": ("trust-root", "trust-root-sha256", "issuer", "identity"),
    "openpgp": ("certificate", "certificate-sha256", "fingerprint"),
    "x509": ("certificate", "certificate-sha256", "subject"),
}


def _lock_signer(table: Table) -> LockSigner:
    kind = cast("LockSignerKind", table.choice("kind", tuple(_LOCK_SIGNER_KEYS)))
    found: dict[str, str] = {}
    for key in _LOCK_SIGNER_KEYS[kind]:
        found[key.replace("-", "_")] = table.sha256(key) if key.endswith("-sha256") else table.text(key)
    table.close()
    return LockSigner(kind=kind, **found)


def signer_rule(table: Table) -> SignerRule:
    """Read `{ all = […], any = […] }`; a list that is there and empty is an error, never "nobody needed"."""
    lists = {key: table.maybe_texts(key) for key in ("all", "any")}
    table.close()
    for key, names in lists.items():
        if names == ():
            raise table.fail(key, "names nobody, and so would ask for nothing")
    if lists["all"] is None and lists["any"] is None:
        raise table.fail("", "all or any is needed: naming nobody would ask for nothing")
    return SignerRule(all=lists["all"] or (), any=lists["any"] or ())


def _suppression(table: Table) -> Suppression:
    rule = table.choice("rule", tuple(RULES))
    path, sha256 = table.maybe_text("path"), table.maybe_sha256("sha256")
    reason, expires = table.text("reason"), table.date("expires")
    table.close()
    if path is None and sha256 is None:
        raise table.fail("", "path or sha256 is needed", "a rule cannot be suppressed everywhere")
    if not reason.strip():
        raise table.fail("reason", "empty")
    return Suppression(rule=rule, reason=reason, expires=expires, path=path, sha256=sha256)

"""`slsa-provenance`: a signed statement about how a file came to be: SLSA provenance v1 and v0.2, other in-toto statements.

What is verified is that the pinned signer states something about these bytes. What it states (builder, source repository,
ref) comes back as facts, and policy compares them. Sigstore bundles are taken (`actions/attest`), and what PyPI serves about
a file, which may be several attestations: then those count that the pinned signer made.
"""

from __future__ import annotations

import re
from typing import Final

from safeload.errors import SignatureError
from safeload.findings import escape
from safeload.trust.json_text import Object
from safeload.trust.pypi import bundles_of
from safeload.trust.scheme import Anchor, Artifact, Terms, Verified
from safeload.trust.sealed import signed_statement
from safeload.trust.statement import Statement

__all__ = ["SLSA_V02", "SLSA_V1", "verify"]

SLSA_V1: Final = "https://slsa.dev/provenance/v1"
SLSA_V02: Final = "https://slsa.dev/provenance/v0.2"
_SOURCE: Final = re.compile(r"git\+(.+?)(?:\.git)?(?:@(refs/.+))?", re.DOTALL)
_SHOWN: Final = 3


def verify(artifact: Artifact, bundle: bytes, anchor: Anchor, terms: Terms) -> Verified:
    """Check an attestation about the artifact; see `Scheme.verify`."""
    found: list[Verified] = []
    problems: list[SignatureError] = []
    for one in bundles_of(bundle):
        try:
            found.append(_attested(artifact, one, anchor))
        except SignatureError as error:
            problems.append(error)
    if not found:
        raise problems[0]
    # On first use anybody counts; what others than the first one state is not this signer's.
    own = [who for who in found if (who.identity, who.issuer) == (found[0].identity, found[0].issuer)]
    return Verified(
        identity=own[0].identity, issuer=own[0].issuer,
        # Of one attestation: what two of them state must not be put together to something that neither does.
        facts=next((who.facts for who in own if who.facts), ()),
        remarks=tuple(dict.fromkeys(line for who in own for line in who.remarks)),
        until=min((who.until for who in own if who.until is not None), default=None),
    )  # fmt: skip


def _attested(artifact: Artifact, bundle: bytes, anchor: Anchor) -> Verified:
    statement, who = signed_statement(bundle, anchor)
    if not any(digest == artifact.sha256 for _, digest in statement.subjects):
        about = ", ".join(f"sha256:{digest}" for _, digest in statement.subjects[:_SHOWN] if digest) or "digests of another kind"
        raise SignatureError(
            f"the attestation is about other bytes: expected sha256:{artifact.sha256}, found {about}",
            check="digest", expected=f"sha256:{artifact.sha256}", found=about,
        )  # fmt: skip
    facts = _facts(statement)
    remarks = (f"states {escape(statement.predicate_type)}", *(f"{name}: {escape(value)}" for name, value in facts))
    return Verified(identity=who.identity, issuer=who.issuer, facts=facts, remarks=(*who.remarks, *remarks), until=who.until)


def _facts(statement: Statement) -> tuple[tuple[str, str], ...]:
    predicate = statement.predicate
    found: dict[str, str | None] = {}
    if statement.predicate_type == SLSA_V1:
        found["builder"] = _text(predicate, "runDetails", "builder", "id")
        workflow = ("buildDefinition", "externalParameters", "workflow")
        found["repository"] = _text(predicate, *workflow, "repository")
        found["ref"] = _text(predicate, *workflow, "ref")
        uri = _text(predicate, "buildDefinition", "externalParameters", "source", "uri")
    elif statement.predicate_type == SLSA_V02:
        found["builder"] = _text(predicate, "builder", "id")
        uri = _text(predicate, "invocation", "configSource", "uri")
    else:
        return ()
    source = _SOURCE.fullmatch(uri) if uri is not None else None
    if source is not None:
        found["repository"] = found.get("repository") or source[1]
        found["ref"] = found.get("ref") or source[2]
    return tuple((name, value) for name, value in found.items() if value)


def _text(table: Object, *keys: str) -> str | None:
    """Follow keys down; None where one is missing or is of another kind."""
    value: object = table
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None

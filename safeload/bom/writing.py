"""A lockfile as a CycloneDX bill of materials: every model with its files, digests, source, signers and globals (ML-BOM, CycloneDX 1.6).

The bill says what the lock says and looks at nothing else: no file is opened, nothing is fetched. For the same lockfile it is the
same text, but for the time that it was made, which `SOURCE_DATE_EPOCH` fixes.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal
from urllib.parse import quote

from safeload.context import Context
from safeload.errors import MissingExtraError, UsageError
from safeload.findings import escape
from safeload.lockfile import LockedFile, Lockfile, Model, ModelSource, Signer, dumps

__all__ = ["bill_of_materials"]

Kind = Literal["json", "xml"]
_SPACE: Final = uuid.UUID("6f2c1a52-5f0d-5c43-9a55-3f2a7a0f6c11")  # of serial numbers that are made from locks
_LONG: Final = 5_000


def bill_of_materials(lock: str | os.PathLike[str] | None = None, *, kind: Kind = "json") -> str:
    """Write the lockfile in force as a CycloneDX document.

    Args:
        lock: The lockfile, or None for the one in force.
        kind: "json" or "xml".

    Raises:
        UsageError: no lockfile is in force.
        LockfileError: it is not valid.
        SignatureError: policy wants it signed, and it is not.
        MissingExtraError: cyclonedx-python-lib is not installed.
        FileNotFoundError, PermissionError: as `open` does.
    """
    held = Context.of(None, lock).lock  # policy may want it signed
    if held is None:
        raise UsageError("no lockfile is in force", hint="pin models with 'safeload lock', or name a lockfile with --lock")
    return _Bill(_library(), held).text(kind)


def _library() -> Any:
    try:
        import cyclonedx.model.bom
        import cyclonedx.model.component
        import cyclonedx.output
        import cyclonedx.schema
        import packageurl
    except ImportError:
        library: Any = None
    else:
        library = cyclonedx, packageurl
    if library is None:
        raise MissingExtraError(
            "a bill of materials needs cyclonedx-python-lib, which is not installed", hint="pip install 'safeload[bom]'"
        )  # fmt: skip
    return library


class _Bill:
    """One lockfile on its way to a document."""

    def __init__(self, library: Any, lock: Lockfile) -> None:
        (self._cyclonedx, self._purl), self._lock = library, lock
        self._signers = {signer.name: signer for signer in lock.signers}

    def text(self, kind: Kind) -> str:
        """The document."""
        from safeload import __version__

        model, component = self._cyclonedx.model, self._cyclonedx.model.component
        digest = hashlib.sha256(dumps(self._lock).encode()).hexdigest()  # what was read, not what lies there by now
        tool = component.Component(name="safeload", version=__version__, type=component.ComponentType.APPLICATION)
        about = [("safeload:lockfile:version", self._lock.version), ("safeload:lockfile:sha256", digest)]
        metadata = model.bom.BomMetaData(timestamp=_now(), properties=self._properties(about))
        metadata.tools.components.add(tool)
        bill = model.bom.Bom(
            serial_number=uuid.uuid5(_SPACE, digest), metadata=metadata, components=[self._model(held) for held in self._lock.models]
        )  # fmt: skip
        output, schema = self._cyclonedx.output, self._cyclonedx.schema
        form = schema.OutputFormat.JSON if kind == "json" else schema.OutputFormat.XML
        text: str = output.make_outputter(bom=bill, output_format=form, schema_version=schema.SchemaVersion.V1_6).output_as_string(indent=2)
        return text if text.endswith("\n") else text + "\n"

    def _model(self, held: Model) -> Any:
        """A machine-learning model; a model of one file has that file's digest, too."""
        component = self._cyclonedx.model.component
        files = [self._file(held, file) for file in held.files]
        alone = held.files[0] if len(held.files) == 1 else None
        return component.Component(
            type=component.ComponentType.MACHINE_LEARNING_MODEL, name=_text(held.name), bom_ref=f"model:{_text(held.name)}",
            version=held.source.revision if held.source is not None else None, purl=self._package(held.source),
            hashes=[self._hash(alone.sha256)] if alone is not None else [], components=files,
            external_references=list(self._references(held)), properties=self._properties(self._of_model(held)),
        )  # fmt: skip

    def _file(self, held: Model, file: LockedFile) -> Any:
        component = self._cyclonedx.model.component
        made = file.converted
        return component.Component(
            type=component.ComponentType.FILE, name=_text(file.path), bom_ref=f"file:{_text(held.name)}:{_text(file.path)}",
            hashes=[self._hash(file.sha256)], properties=self._properties(_of_file(file)),
            pedigree=None if made is None else component.Pedigree(descendants=[component.Component(
                type=component.ComponentType.FILE, name=_text(made.path), hashes=[self._hash(made.sha256)],
                properties=self._properties([("safeload:sha256-tree", made.sha256_tree)]),
            )]),
        )  # fmt: skip

    def _hash(self, sha256: str) -> Any:
        model = self._cyclonedx.model
        return model.HashType(alg=model.HashAlgorithm.SHA_256, content=sha256)

    def _properties(self, pairs: Iterable[tuple[str, str | None]]) -> list[Any]:
        made: list[Any] = [self._cyclonedx.model.Property(name=name, value=_text(value)) for name, value in pairs if value is not None]
        return made

    def _of_model(self, held: Model) -> Iterator[tuple[str, str | None]]:
        yield "safeload:complete", "true" if held.complete else "false"
        yield "safeload:require", None if held.require is None else str(held.require)
        if held.source is not None:
            yield "safeload:source:kind", held.source.kind
            yield "safeload:source:requested", held.source.requested
        for name in dict.fromkeys(signature.signer for signature in held.signatures):
            signer = self._signers.get(name)
            if signer is not None:
                yield "safeload:signer", f"{name}: {_who(signer)}"

    def _references(self, held: Model) -> Iterator[Any]:
        """Where it came from, and the signatures that are kept beside the lock."""
        model = self._cyclonedx.model
        kinds, source = model.ExternalReferenceType, held.source
        if source is not None and (source.url or source.repo):
            kind = kinds.VCS if source.kind in ("git", "huggingface") else kinds.DISTRIBUTION
            yield model.ExternalReference(type=kind, url=model.XsUri(_address(source)), comment=_text(f"{source.kind} source"))
        for signature in held.signatures:
            comment = _text(f"{signature.kind} signature of {signature.signer}")
            url = model.XsUri(quote(signature.bundle))
            yield model.ExternalReference(type=kinds.ATTESTATION, url=url, comment=comment, hashes=[self._hash(signature.bundle_sha256)])

    def _package(self, source: ModelSource | None) -> Any:
        """The package URL of a hub's model; other sources have none that is settled."""
        if source is None or source.kind != "huggingface" or not source.repo:
            return None
        owner, _, name = source.repo.rpartition("/")
        revision = source.revision.lower() if source.revision else None
        return self._purl.PackageURL(type="huggingface", namespace=owner or None, name=name, version=revision)


def _of_file(file: LockedFile) -> Iterator[tuple[str, str | None]]:
    yield "safeload:size", str(file.size)
    yield "safeload:sha256-tree", file.sha256_tree
    yield "safeload:format", file.format
    for name in file.globals or ():
        yield "safeload:global", name
    for name in file.allow_globals:
        yield "safeload:allow-global", name


def _who(signer: Signer) -> str:
    """A signer in one line: exactly what is pinned of it."""
    facts = (
        ("identity", signer.identity), ("issuer", signer.issuer), ("fingerprint", signer.fingerprint), ("subject", signer.subject),
        ("certificate sha256", signer.certificate_sha256), ("public key sha256", signer.public_key_sha256),
    )  # fmt: skip
    return ", ".join([signer.kind, *(f"{name} {value}" for name, value in facts if value is not None)])


def _address(source: ModelSource) -> str:
    if source.url is not None:
        return source.url
    repo = source.repo or ""
    return repo if "://" in repo else f"{'hf' if source.kind == 'huggingface' else source.kind}://{quote(repo)}"


def _text(value: str) -> str:
    """Names come out of files: what would deceive a reader of the bill is escaped."""
    return escape(value, _LONG)


def _now() -> dt.datetime:
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    return dt.datetime.fromtimestamp(int(fixed), tz=dt.UTC) if fixed.isdigit() and len(fixed) < 12 else dt.datetime.now(tz=dt.UTC)

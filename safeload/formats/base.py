"""The seam between containers and everything else: what a format reader is, and what it hands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from safeload.errors import MalformedError, NotBuiltError
from safeload.findings import Finding
from safeload.lean_dataclass import dataclass, field
from safeload.program import ScriptClass, StorageSpec, TensorSpec
from safeload.source import Reading, Source

if TYPE_CHECKING:
    from safeload.formats.manifest import Manifest
    from safeload.walk import Walk
    from safeload.walk.model import Persistent

__all__ = ["Contents", "Format", "Listed", "StreamPart"]


@dataclass(slots=True, kw_only=True)
class StreamPart:
    """One pickle stream of a file, walked.

    Attributes:
        member: The container member, levels joined by "!"; None when the file itself is the stream.
        offset: First byte of the stream in its member.
        data: The bytes of the member from `offset` on; the walk says where the stream ends.
        walk: What the symbolic pass saw.
        main: Whether this is the stream that a load builds.
        persistent: How its persistent ids are understood; None where they have no meaning.
        storages: For each persistent id in the order of the stream: its storage, or None where another id names it, too.
        judged: Its reader looked at the values, too: nobody else has to.
    """

    member: str | None
    offset: int
    data: memoryview
    walk: Walk
    main: bool = False
    persistent: Persistent | None = None
    storages: Sequence[StorageSpec | None] = ()
    judged: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """One tensor of a format that is not built here, for `inspect`: dtypes are the format's own ("Q4_K", "STRING").

    Attributes:
        name: As the file spells it; hostile until escaped.
        dtype: The format's name of the element type.
        shape: Elements per dimension; -1 where the file leaves a size open.
        nbytes: Bytes in this file; 0 where they lie elsewhere.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(slots=True, kw_only=True)
class Contents:
    """All that one reader found in one file.

    Attributes:
        format: The reader's name.
        parts: Every pickle stream, the main one included.
        findings: What the reader itself noticed (container rules); the streams' findings are in their walks.
        table: For formats without a stream: name → tensor, in file order.
        listed: For formats that are read and never built: their tensors, in file order.
        metadata: Small facts as strings.
        error: Why reading ended early, or None. What was found until then is kept.
        end: Where the file's own bytes end; a caller's stream is left there for formats that may be followed by another file.
        storages: Every storage that the streams or the table name, each once; a load reads them before it builds.
        raises: What a load raises for `error`, where torch raises something of its own.
        script: Whether the main stream is TorchScript's: its classes are described, never made.
        modules: For TorchScript: what the code says of each module class, by full name ("__torch__.Net").
        manifest: For a converted file: what it says of the object that it was made from.
        shards: For an index: the file that each tensor lies in, by name, beside it.
    """

    format: str
    parts: list[StreamPart] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    table: Mapping[str, TensorSpec] | None = None
    listed: list[Listed] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    end: int | None = None
    storages: Sequence[StorageSpec] = ()
    script: bool = False
    modules: dict[str, ScriptClass] = field(default_factory=dict)
    raises: type[MalformedError] = MalformedError
    manifest: Manifest | None = None
    shards: dict[str, str] | None = None

    @property
    def main(self) -> StreamPart | None:
        """The stream that a load builds, or None."""
        return next((part for part in self.parts if part.main), None)

    @property
    def built(self) -> bool:
        """Whether a load has something to make: a stream, a table of tensors, or the files of an index."""
        return self.main is not None or self.table is not None or self.shards is not None

    def require_built(self) -> None:
        """Raise when a load has nothing to make of this format, although it was read to its end.

        Raises:
            NotBuiltError: it says what can be done with the file.
        """
        if not self.built and self.error is None:
            message = f"the file is {self.format}, which can be scanned, locked and verified, and is not loaded as torch objects"
            hint = "'safeload inspect' lists what is in it; the program that it is for can load it once it is verified"
            raise NotBuiltError(message, hint=hint)


class Format(Protocol):
    """One file format. Stateless; one instance in `formats.FORMATS`."""

    @property
    def name(self) -> str:
        """As it stands in reports and lockfiles, for example "torch-zip"."""
        ...

    def claims(self, source: Source) -> bool:
        """Whether the content is this format's, whatever the file is called. Never raises for content."""
        ...

    def read(self, source: Source, reading: Reading) -> Contents:
        """Read the structure and walk every stream. Malformed content ends in `Contents.error`, not in an exception."""
        ...

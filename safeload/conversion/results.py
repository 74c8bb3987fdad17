"""What a conversion gives back."""

from __future__ import annotations

from safeload.errors import PinError
from safeload.findings import escape
from safeload.lean_dataclass import dataclass, field
from safeload.source import Source
from safeload.trust.both_digests import file_digests

__all__ = ["CheckResult", "ConvertResult", "Written"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One file that was written, or would be.

    Attributes:
        path: Where.
        size: Bytes.
        sha256_tree: Lower-case hex; "" in a dry run.
        known: `sha256`, where it was taken already.
    """

    path: str
    size: int
    sha256_tree: str = ""
    known: str = field(default="", compare=False)

    @property
    def sha256(self) -> str:
        """Lower-case hex; "" in a dry run.

        It is one long chain, and half of the time that a conversion takes. So it is taken when somebody asks for it first, from the file as
        it lies there then, which must still be what was written.

        Raises:
            PinError: it is another file by now.
        """
        if not self.known and self.sha256_tree:
            with Source.open(self.path) as source:
                sha256, tree = file_digests(source)
            if tree != self.sha256_tree:
                both = {"expected": f"sha256-tree:{self.sha256_tree}", "found": f"sha256-tree:{tree}"}
                text = f"the file changed since it was written: written {both['expected']}, found {both['found']}"
                raise PinError(text, where=escape(self.path, 1000), **both).under("SL601")
            object.__setattr__(self, "known", sha256)
        return self.known


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertResult:
    """What became of a file.

    Attributes:
        source: Its path or name.
        format: The reader that claimed it.
        source_sha256: Lower-case hex; "" in a dry run.
        files: What was written, the tensors' files first.
        kept: Names of tensors that every safetensors reader sees.
        carried: Tensors that only the manifest gives back: (name, why).
        inert: Globals that are not modelled; their objects stay in the manifest as inert data.
        left_out: What the output does not have because it was not asked for: (name, why).
        dry_run: Nothing was written.
        weights: The output holds the weights only, because that was asked for.
        dangers: What a loader that runs the source would do, of that what is known to be dangerous: one line each. Nothing of it was
            done, and the output holds it as inert data at most.
    """

    source: str
    format: str
    source_sha256: str = ""
    files: tuple[Written, ...] = ()
    kept: tuple[str, ...] = ()
    carried: tuple[tuple[str, str], ...] = ()
    inert: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    dry_run: bool = False
    weights: bool = False
    dangers: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Of all files that were written."""
        return tuple(file.path for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The outcome of comparing an output with its source.

    Attributes:
        same: Whether it holds all that the source holds.
        storages: How many storages were compared.
        nbytes: Bytes that were compared.
        nodes: How many nodes the tree has.
        difference: The first difference, or "".
        left_out: What conversion leaves out of the source, and so is not in the output: (name, why).
    """

    same: bool
    storages: int = 0
    nbytes: int = 0
    nodes: int = 0
    difference: str = ""
    left_out: tuple[tuple[str, str], ...] = ()

"""What a conversion gives back."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CheckResult", "ConvertResult", "Written"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One file that was written, or would be.

    Attributes:
        path: Where.
        size: Bytes.
        sha256: Lower-case hex; "" in a dry run.
        sha256_tree: Likewise.
    """

    path: str
    size: int
    sha256: str = ""
    sha256_tree: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertResult:
    """What became of a file.

    Attributes:
        source: Its path or name.
        format: The reader that claimed it.
        source_sha256: Lower-case hex; "" in a dry run.
        source_sha256_tree: Likewise.
        files: What was written, the tensors' files first.
        kept: Names of tensors that every safetensors reader sees.
        carried: Tensors that only the manifest gives back: (name, why).
        inert: Globals that are not modelled; their objects stay in the manifest as inert data.
        left_out: What the output does not have because it was not asked for: (name, why).
        dry_run: Nothing was written.
        weights: The output holds the weights only, because that was asked for.
    """

    source: str
    format: str
    source_sha256: str = ""
    source_sha256_tree: str = ""
    files: tuple[Written, ...] = ()
    kept: tuple[str, ...] = ()
    carried: tuple[tuple[str, str], ...] = ()
    inert: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    dry_run: bool = False
    weights: bool = False

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
    """

    same: bool
    storages: int = 0
    nbytes: int = 0
    nodes: int = 0
    difference: str = ""

"""Back again: a converted file, or any checkpoint, as a torch zip that `torch.load(weights_only=True)` reads."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from safeload.context import Context
from safeload.conversion.comparing import NotTheSameError
from safeload.conversion.joined import open_joined
from safeload.conversion.origin import open_tree
from safeload.conversion.output import Draft, check_destination
from safeload.conversion.pickling import pickle_tree
from safeload.conversion.plan import root_of
from safeload.conversion.proof import Place, compare_bytes, first_difference, pieces_of
from safeload.conversion.reading import plain_reader, storage_bytes
from safeload.conversion.rebuild import build_tree
from safeload.conversion.recorder import Recorder
from safeload.conversion.results import Written
from safeload.conversion.storages import bind
from safeload.conversion.tree import Tree, encode_tree
from safeload.denied import denied_reason
from safeload.errors import RefusedError, UnsupportedError
from safeload.findings import escape
from safeload.formats.index_file import is_index, read_index
from safeload.formats.manifest import KEY, SIDECAR_KEY, beside_manifest, manifest_of
from safeload.hashing.crc import crc32
from safeload.lean_dataclass import dataclass
from safeload.path_arguments import path_text, system_said
from safeload.policy import Policy, snippet
from safeload.program import StorageSpec
from safeload.source import Limits, Reading, Source
from safeload.trust.both_digests import file_digests
from safeload.walk import default_resolve

__all__ = ["export"]

_ALIGNED: Final = 64
_TOP: Final = "archive"
_SCRIPT: Final = "__torch__."  # classes that TorchScript has and Python has not
_SHOWN: Final = 5  # names in a message
_MOST: Final = 100  # names in a hint
_FULL32: Final = 0xFFFFFFFF
_DATE: Final = 0x21  # the first day that a zip can say; a zip of the same checkpoint is the same file


@dataclass(slots=True)
class _Held:
    """An object and the bytes of its storages."""

    root: Any
    recorder: Recorder | None
    tree: Tree
    chunks: Callable[[int, StorageSpec], Iterator[Any]]
    name: str
    names: tuple[str, ...] = ()  # globals


@contextlib.contextmanager
def _opened(src: Path, reading: Reading) -> Iterator[_Held]:
    """Open a converted file by its manifest, anything else by its stream."""
    paths = read_index(src)[1] if is_index(src) else [src]
    with Source.open(paths[0], limits=reading.limits) as source:
        from safeload.formats import detect

        reader = detect(source)
        if reader is None or reader.name != "safetensors":
            opened = open_tree(source, reading, Policy(), strict=False)
            read = plain_reader(source)
            tree = encode_tree(opened.root, opened.recorder)
            yield _Held(
                opened.root, opened.recorder, tree,
                lambda _number, root: storage_bytes(read, root, reading.limits, source.name), source.name, opened.report.globals,
            )  # fmt: skip
            return
    with open_joined(paths, reading) as joined:
        facts = joined.metadata[0]
        manifest = manifest_of(facts, beside_manifest(facts, src.parent, reading.limits)) if KEY in facts or SIDECAR_KEY in facts else None
        place = Place(joined.source)
        if manifest is None:
            root: Any = dict(joined.table)
            tree = encode_tree(root, None)
            yield _Held(root, None, tree, lambda _number, spec: _region(joined.source, spec), joined.source.name)
            return
        bound = bind(manifest, joined.table, joined.source.size)
        recorder = Recorder(manifest.walk, unknown="inert")
        root = build_tree(manifest, bound, recorder, joined.source)
        index = {id(spec): number for number, spec in enumerate(bound.specs)}
        yield _Held(
            root,
            recorder,
            encode_tree(root, recorder),
            lambda _number, spec: place.chunks(pieces_of(bound, index[id(spec)])),
            joined.source.name,
            manifest.globals,
        )


def _region(source: Source, spec: StorageSpec) -> Iterator[Any]:
    from safeload.conversion.reading import CHUNK

    region = spec.region
    if region is not None:
        for start in range(0, region.nbytes, CHUNK):
            out = bytearray(min(CHUNK, region.nbytes - start))
            source.readinto(region.offset + start, memoryview(out), keep=False)
            yield out


@system_said()
def export(
    src: str | os.PathLike[str], dst: str | os.PathLike[str], *, force: bool = False, policy: Any = None, limits: Limits | None = None
) -> Written:
    """Write a torch zip from a converted file: its weights and its tree.

    A converted file may hold any call as inert data; in a torch zip it would be one that torch makes. So what policy would not let
    safeload build is not written, whatever the source is.

    Args:
        src: A converted file, or the index of several; any other checkpoint that safeload reads is taken, too.
        dst: Where to.
        force: Replace what is there.
        policy: As for `safeload.load`; its `allow-globals` are the classes that are written besides what is modelled.
        limits: Bounds on reading.

    Returns:
        What was written. What `torch.load(weights_only=True)` does not take in the original it does not take here.

    Raises:
        RefusedError: it names globals that policy does not grant; `globals` has them.
        UsageError: the destination exists, is the source, or is a link.
        UnsupportedError: the tree has something that a torch zip has no form for, or there is no room.
        MalformedError: the source is not what it claims to be.
    """
    reading = Reading(limits=limits or Limits())
    path, origin = Path(path_text(dst, "dst")), Path(path_text(src, "src"))
    check_destination(path, [origin.stat()], force=force)
    allowed = Context.of(policy, lock=False).policy
    with _opened(origin, reading) as held:
        _check_names(held, allowed)
        roots = _roots(held.tree)
        keys = {held.tree.group(root): str(number) for number, root in enumerate(roots)}

        def key_of(spec: StorageSpec) -> tuple[str, StorageSpec, int]:
            root, at = root_of(spec)
            if held.tree.group(root) not in keys:
                raise UnsupportedError("a storage without bytes has no form in a torch zip", where=held.name)
            return keys[held.tree.group(root)], root, at

        stream = pickle_tree(held.root, held.recorder, key_of)
        records: list[tuple[str, Callable[[], Iterator[Any]], int]] = [
            ("data.pkl", lambda: iter([stream]), len(stream)), (".format_version", lambda: iter([b"1"]), 1),
            (".storage_alignment", lambda: iter([b"64"]), 2), ("byteorder", lambda: iter([b"little"]), 6),
        ]  # fmt: skip
        for number, root in enumerate(roots):
            records.append((f"data/{number}", lambda root=root: held.chunks(0, root), root.nbytes))  # type: ignore[misc]
        records.append(("version", lambda: iter([b"3\n"]), 2))
        with Draft(path, _zip_size(records), force=force) as draft:
            _write_zip(draft, records)
            draft.flush()
            digests = _prove(draft, held, reading, allowed)
            draft.commit()
            return Written(path=str(path), size=draft.size, sha256_tree=digests[1], known=digests[0])


def _check_names(held: _Held, policy: Policy) -> None:
    """Refuse what would be a pickle that asks for more than tensors and plain data."""
    unmodelled = (name for name in held.names if default_resolve(name.rpartition(".")[0], name.rpartition(".")[2]) is None)
    refused = tuple(name for name in unmodelled if name not in policy.allow_globals or denied_reason(name) is not None)
    if not refused:
        return
    shown = ", ".join(escape(name, 100) for name in refused[:_SHOWN]) + (", …" if len(refused) > _SHOWN else "")
    hint = "for the weights alone: 'safeload convert --state-dict', and export what that wrote"
    if all(denied_reason(name) is None and not name.startswith(_SCRIPT) for name in refused):
        hint += "\nor grant the classes in a policy, if you trust the file:\n" + snippet(refused[:_MOST])
    text = f"refused: the archive would have torch import and call what the file names: {shown}"
    raise RefusedError(text, where=held.name, hint=hint, globals=refused).under("SL103")


def _roots(tree: Tree) -> list[StorageSpec]:
    """Storages with bytes, each once."""
    found: dict[tuple[int, str], StorageSpec] = {}
    for spec in tree.storages:
        if spec.region is not None:
            found.setdefault(tree.group(spec), spec)
    return list(found.values())


# ---- the archive

_Records = list[tuple[str, Callable[[], Iterator[Any]], int]]


def _places(records: _Records) -> list[tuple[int, int, bytes, bytes]]:
    """(header's offset, data's offset, name, local extra field) of every record; data begin aligned, as torch writes them."""
    found = []
    at = 0
    for name, _, nbytes in records:
        raw = f"{_TOP}/{name}".encode("ascii")
        wide = struct.pack("<HHQQ", 1, 16, nbytes, nbytes) if nbytes >= _FULL32 else b""
        start = at + 30 + len(raw) + len(wide) + 4
        padding = -start % _ALIGNED
        extra = wide + struct.pack("<2sH", b"FB", padding) + b"Z" * padding
        found.append((at, start + padding, raw, extra))
        at = start + padding + nbytes
    return found


def _central(records: _Records, sums: list[int]) -> bytes:
    """The directory and what ends the file."""
    places = _places(records)
    out = bytearray()
    for (header, _, raw, _extra), (_, _, nbytes), crc in zip(places, records, sums, strict=True):
        wide_size, wide_at = nbytes >= _FULL32, header >= _FULL32
        numbers = [*([nbytes, nbytes] if wide_size else []), *([header] if wide_at else [])]
        extra = struct.pack("<HH", 1, 8 * len(numbers)) + b"".join(struct.pack("<Q", number) for number in numbers) if numbers else b""
        size = min(nbytes, _FULL32)
        version = 45 if numbers else 0
        out += struct.pack(
            "<IHHHHHHIIIHHHHHII", 0x02014B50, 0, version, 0, 0, 0, _DATE, crc, size, size, len(raw), len(extra), 0, 0, 0, 0,
            _FULL32 if wide_at else header,
        )  # fmt: skip
        out += raw + extra
    start = places[-1][1] + records[-1][2]
    count, length = len(records), len(out)
    if count >= 0xFFFF or start >= _FULL32 or length >= _FULL32:
        at = start + length
        out += struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, length, start)
        out += struct.pack("<IIQI", 0x07064B50, 0, at, 1)
    out += struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, min(count, 0xFFFF), min(count, 0xFFFF), min(length, _FULL32), min(start, _FULL32), 0)
    return bytes(out)


def _zip_size(records: _Records) -> int:
    return _places(records)[-1][1] + records[-1][2] + len(_central(records, [0] * len(records)))


def _write_zip(draft: Draft, records: _Records) -> None:
    sums = []
    for (header, start, raw, extra), (name, chunks, nbytes) in zip(_places(records), records, strict=True):
        at, crc = start, 0
        for chunk in chunks():
            draft.write(at, chunk)
            crc = crc32(chunk, crc)
            at += len(chunk)
        if at != start + nbytes:
            raise NotTheSameError(f"{name} has {at - start} bytes, and {nbytes} were meant")
        size = min(nbytes, _FULL32)
        version = 45 if nbytes >= _FULL32 else 0
        local = struct.pack("<IHHHHHIIIHH", 0x04034B50, version, 0, 0, 0, _DATE, crc, size, size, len(raw), len(extra))
        draft.write(header, local + raw + extra)
        sums.append(crc)
    draft.write(_places(records)[-1][1] + records[-1][2], _central(records, sums))


def _prove(draft: Draft, held: _Held, reading: Reading, policy: Policy) -> tuple[str, str]:
    """Read the archive as any other, which must be one that would load, and compare tree and bytes."""
    with Source.open(draft.reading_path, name=escape(str(draft.path), 500), limits=reading.limits) as source:
        again = open_tree(source, reading, policy, strict=True)
        if again.contents.format not in ("torch-zip", "torchscript"):
            raise NotTheSameError("the archive is not read as a torch zip")
        tree = encode_tree(again.root, again.recorder)
        read = plain_reader(source)
        for root, other in zip(_roots(held.tree), _roots(tree), strict=True):
            expected = held.chunks(0, root)
            compare_bytes(f"storage {root.key}", expected, storage_bytes(read, other, reading.limits, source.name))
        for what, a, b in zip(("root", "nodes", "globals", "storages", "sharing", "bytes"), _shape(held.tree), _shape(tree), strict=False):
            if a != b:
                raise NotTheSameError(f"the archive has other {what} than were written{first_difference(a, b)}")
        return file_digests(source)


def _shape(tree: Tree) -> list[Any]:
    """What must be the same: slices of storages became tensors that lie further on, so those are told by where they lie."""
    described = tree.described()
    return described if all(spec.base is None for spec in tree.storages) else [len(tree.nodes)]

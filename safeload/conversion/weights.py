"""Only the weights: every tensor of a state dict under its name, contiguous, for programs that know nothing but names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from safeload.conversion.carriers import carrier, row_major
from safeload.conversion.job import Input
from safeload.conversion.origin import Opened
from safeload.conversion.plan import Entry, Names, Plan, flip_of, lay_out, root_of
from safeload.conversion.reading import must_unpack, plain_reader, storage_bytes
from safeload.conversion.tree import Group, encode_tree
from safeload.conversion.writing import Spool, ordered
from safeload.errors import LimitError, UsageError
from safeload.formats.manifest import Origin
from safeload.lean_dataclass import dataclass, field
from safeload.program import COMPLEX, DTYPE_BITS, Region, StorageSpec, TensorSpec
from safeload.source import Reading, Source
from safeload.tensor_table import as_modules, find_state_dict, flatten, is_spec, spec_of

__all__ = ["weights_of"]

_OUTPUTS: Final = frozenset({"lm_head", "embed_out", "output_projection", "proj_out", "output_embeddings", "generator_lm_head"})
_DECODER: Final = ("predictions.decoder.weight", "predictions.decoder.bias", "lm_head.decoder.weight", "lm_head.decoder.bias")
_ROOM: Final = 1 << 30  # bytes that expanded tensors may add to what the file holds


@dataclass(slots=True)
class _Weights:
    """The state dict in the making."""

    root: dict[str, TensorSpec] = field(default_factory=dict)
    plan: Plan = field(default_factory=Plan)
    names: Names = field(default_factory=Names)
    known: dict[Any, StorageSpec] = field(default_factory=dict)
    made: dict[int, Entry] = field(default_factory=dict)
    groups: dict[Group, tuple[StorageSpec, list[Entry]]] = field(default_factory=dict)
    order: list[Entry] = field(default_factory=list)


def weights_of(opened: Opened, reading: Reading, directory: Path, *, limit: int | None, transformers: bool = False) -> Input:
    """Take the weights out of a file.

    Args:
        opened: The file.
        reading: Bounds.
        directory: Where storages wait that must be unpacked for the proof.
        limit: Bytes of tensors in one file.
        transformers: Of tied weights, keep the one that transformers looks for.

    Raises:
        UsageError: there are none.
        LimitError: expanded tensors would become far more than the file holds.
    """
    state = _Weights()
    found = flatten(find_state_dict(as_modules(opened.root, opened.contents.modules), is_spec), is_spec)
    weights = [(name or "tensor", value) for name, value in found]
    for name, value in sorted(weights, key=lambda one: _tied_rank(one[0])) if transformers else weights:
        spec = spec_of(value)
        flip = flip_of(spec) if spec is not None else None
        if spec is None or flip is None or (spec.storage.region is None and spec.storage.base is None):
            state.plan.left_out.append((name, "it is no dense tensor with bytes"))
        elif name not in state.root:
            _add(state, name, spec, flip)
    state.root = {name: state.root[name] for name, _ in weights if name in state.root}
    if not state.root:
        raise UsageError("no dense tensor is in the file", where=opened.source.name)
    held = sum(root.nbytes for root, _ in state.groups.values())
    wanted = sum(entry.nbytes for entry in state.order)
    if wanted > 4 * held + _ROOM:
        raise LimitError(f"{wanted} bytes of weights in {held} bytes of storages").under("SL127")
    tree = encode_tree(state.root, None)
    plan = state.plan
    plan.groups = [(root, sorted(entries, key=lambda entry: entry.lo)) for root, entries in state.groups.values()]
    plan.storages = [_storage_json(spec, state.made[id(spec)]) for spec in tree.storages]
    lay_out(plan, state.names, [[entry] for entry in state.order], limit)
    origin = Origin(opened.contents.format, opened.source.size)
    return Input(tree, plan, [opened.source], origin, {}, _expected(opened, state, reading, directory), weights=True)


def _tied_rank(name: str) -> int:
    """Which of tied weights is the one that the others are tied to.

    Most models register it first; of those that do not, transformers ties the output's weights to the input's embeddings, and
    an encoder's and a decoder's copy to the one that both share.
    """
    parts = name.split(".")
    if any(part in _OUTPUTS for part in parts) or name.endswith(_DECODER):
        return 2
    return 1 if parts[0] in ("encoder", "decoder") and "embed_tokens" in parts else 0


def _add(state: _Weights, name: str, spec: TensorSpec, flip: str) -> None:
    """One tensor; one that has the very same elements as an earlier one shares its entry."""
    root, at = root_of(spec.storage)
    size = DTYPE_BITS[spec.dtype] // 8
    lo = at + spec.offset * size
    key = (root.key, lo, spec.shape, spec.stride, spec.dtype, flip) if spec.numel else (name,)
    storage = state.known.get(key)
    if storage is None:
        place = Region(0, spec.nbytes)
        storage = state.known[key] = StorageSpec(f"{len(state.known)}", spec.dtype, spec.numel, spec.nbytes, spec.storage.location, place)
        entry = _entry(state, name, spec, root, lo, flip)
        state.made[id(storage)] = entry
        state.order.append(entry)
        if spec.numel:
            state.groups.setdefault((0, root.key), (root, []))[1].append(entry)
        state.plan.kept.append(entry.name)
    else:
        state.plan.left_out.append((name, f"it is the same tensor as {state.made[id(storage)].name}"))
    state.root[name] = TensorSpec(storage, spec.dtype, spec.shape, row_major(spec.shape))


def _entry(state: _Weights, name: str, spec: TensorSpec, root: StorageSpec, lo: int, flip: str) -> Entry:
    size = DTYPE_BITS[spec.dtype] // 8
    dtype, shape = carrier(spec.dtype, spec.shape)
    span = (1 + sum((length - 1) * step for length, step in zip(spec.shape, spec.stride, strict=True))) * size if spec.numel else 0
    stride = None if spec.contiguous else spec.stride
    return Entry(
        state.names.give(name), dtype, shape, spec.nbytes, root if spec.numel else None, lo, stride, spec.shape, size, flip,
        spec.dtype in COMPLEX, reach=span,
    )  # fmt: skip


def _storage_json(spec: StorageSpec, entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = {"dtype": spec.dtype, "numel": spec.numel, "of": [entry.name] if spec.numel else []}
    if spec.location != "cpu":
        found["location"] = spec.location
    return found


def at_once(source: Source, base: int) -> Callable[[int, int], bytearray]:
    """Return a reader of a stored range of the source."""

    def read(offset: int, nbytes: int) -> bytearray:
        out = bytearray(nbytes)
        source.readinto(base + offset, memoryview(out), keep=False)
        return out

    return read


def _expected(opened: Opened, state: _Weights, reading: Reading, directory: Path) -> Callable[[int, StorageSpec], Iterator[Any]]:
    """The bytes that each weight must have, read from the source once more."""
    source = opened.source
    read = plain_reader(source)

    def expected(_number: int, spec: StorageSpec) -> Iterator[Any]:
        entry = state.made[id(spec)]
        root = entry.root
        if root is None or root.region is None:
            return
        if not must_unpack(root):
            # Many tensors may lie in one storage: read only what this one reaches.
            yield from ordered(at_once(source, root.region.offset + entry.lo), entry)
            return
        with Spool(entry.span, directory) as spool:
            position = 0
            for chunk in storage_bytes(read, root, reading.limits, source.name, check=False):
                start, stop = max(entry.lo - position, 0), min(entry.lo + entry.span - position, len(chunk))
                if start < stop:
                    spool.append(chunk[start:stop])
                position += len(chunk)
            yield from ordered(spool.read, entry)

    return expected

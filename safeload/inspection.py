"""What is in a file, without loading it: its tensors by name, its globals, its metadata, its streams as code."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from safeload.context import Context
from safeload.errors import MalformedError, MissingExtraError, SafeloadError, UnsupportedError
from safeload.findings import escape
from safeload.formats import Contents, StreamPart
from safeload.formats.index_file import files_of
from safeload.program import DTYPE_BITS, Call, Global, StorageSpec, TensorSpec
from safeload.reporting import examine
from safeload.source import Limits, Reading, Source
from safeload.tensor_table import flatten, spec_of
from safeload.walk import kinds, walk
from safeload.walk.arrays import ArrayType
from safeload.walk.model import Model, build

__all__ = ["Inspection", "TensorInfo", "decompile", "inspect"]

_MOST_BYTES: Final = 8 << 20
_MOST_OPCODES: Final = 100_000
_MOST_NODES: Final = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One tensor as the file describes it.

    Attributes:
        name: Keys, indices and attribute names that lead to it, joined by "."; hostile until escaped. "" for a file that is one tensor.
        dtype: torch's name ("float32"), numpy's for an array, or that of a format that is not torch's ("Q4_K").
        shape: Elements per dimension.
        nbytes: Bytes of its elements, were they contiguous; for a sparse tensor, of its parts.
        kind: "tensor", "parameter", "sparse", "quantised", "nested", "meta", "array" or "storage".
        stride: Elements per step; None for what has none.
        offset: Elements from the start of the storage, or None.
        storage: The file's name for its storage, or None. Tensors of one storage share memory.
        device: Where it was when it was saved ("cpu", "cuda:0"), or None.
        requires_grad: As saved.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    kind: str = "tensor"
    stride: tuple[int, ...] | None = None
    offset: int | None = None
    storage: str | None = None
    device: str | None = None
    requires_grad: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What is in one file.

    Attributes:
        path: As it was named.
        format: "torch-zip", "safetensors", …
        size: Bytes of the file; of an index, of the files that it names.
        tensors: In the order of the file; shared ones under each of their names.
        globals: Every global that any stream names, sorted.
        metadata: Small facts of the format, as strings.
        parameters: Elements of all tensors, shared storage counted once.
    """

    path: str
    format: str
    size: int
    tensors: tuple[TensorInfo, ...] = ()
    globals: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    parameters: int = 0


def inspect(f: Any, *, lock: Any = None) -> Inspection:
    """Describe a file. Nothing in it is imported, called or built; no tensor's bytes are read.

    Args:
        f: A path, a file object, bytes, a model's name in the lockfile, or an address as for `safeload.scan`.
        lock: As for `safeload.load`.

    Raises:
        RemoteError: nothing, or nothing usable, is at the address.
        MalformedError: it is not what it claims to be, or no reader claims it.
        FileNotFoundError, IsADirectoryError, PermissionError: as `open` does.
    """
    return _inspected(Context.of({}, lock).target(f, remote=True).file)


def _inspected(f: Any, *, part: bool = False) -> Inspection:
    """Describe one file, or all files of an index."""
    with Source.open(f) as source:
        contents, report = examine(source, Reading(), values=False)
        if source.failure is not None:
            raise source.failure
        if contents is None or contents.error is not None:
            raise MalformedError(
                report.error or "no reader claims the file", where=source.name, hint=f"'safeload scan {source.name}' says more"
            )
        if contents.shards is not None:
            return _together(source, [_inspected(path, part=True) for path in files_of(contents, source, part=part)])
        try:
            tensors = tuple(_tensors(contents))
        except SafeloadError as error:
            raise error.at(source.name) from None
        return Inspection(
            path=source.name, format=contents.format, size=source.size, tensors=tensors, globals=report.globals,
            metadata=dict(report.metadata), parameters=_parameters(tensors),
        )  # fmt: skip


def _together(source: Source, parts: list[Inspection]) -> Inspection:
    """What is in the files of an index, as one; of their metadata, what all of them say."""
    tensors = tuple(tensor for part in parts for tensor in part.tensors)
    shared = {key: value for key, value in parts[0].metadata.items() if all(part.metadata.get(key) == value for part in parts)}
    return Inspection(
        path=source.name, format="index", size=sum(part.size for part in parts), tensors=tensors,
        globals=tuple(sorted({name for part in parts for name in part.globals})), metadata=shared,
        parameters=sum(part.parameters for part in parts),
    )  # fmt: skip


def _parameters(tensors: tuple[TensorInfo, ...]) -> int:
    """Elements, where tensors that are the same view of the same storage count once."""
    total = 0
    seen = set()
    for tensor in tensors:
        place = (tensor.storage, tensor.offset, tensor.shape, tensor.stride)
        if tensor.storage is not None and place in seen:
            continue
        seen.add(place)
        count = 1
        for size in tensor.shape:
            count *= max(size, 0)
        total += count
    return total


def _tensors(contents: Contents) -> Iterator[TensorInfo]:
    if contents.table is not None:
        for name, spec in contents.table.items():
            yield _dense(name, spec)
        return
    for listed in contents.listed:
        yield TensorInfo(name=listed.name, dtype=listed.dtype, shape=listed.shape, nbytes=listed.nbytes)
    main = contents.main
    if main is None:
        return
    tree = build(main.walk, Model(main.walk, unknown="inert", persistent=main.persistent))
    for name, value in flatten(tree, _is_leaf):
        yield _info(name, value)


def _is_leaf(value: Any) -> bool:
    if isinstance(value, Call):
        return value.kind in (kinds.TENSOR, kinds.NPARRAY, kinds.EMPTY_TENSOR)
    return isinstance(value, (TensorSpec, StorageSpec))


def _dense(name: str, spec: TensorSpec, kind: str = "tensor", *, requires_grad: bool = False) -> TensorInfo:
    return TensorInfo(
        name=name, dtype=spec.dtype, shape=spec.shape, nbytes=spec.nbytes, kind=kind, stride=spec.stride, offset=spec.offset,
        storage=spec.storage.key, device=spec.storage.location, requires_grad=requires_grad or spec.requires_grad,
    )  # fmt: skip


def _info(name: str, value: Any) -> TensorInfo:
    """Describe one leaf of a spec-mode build."""
    if isinstance(value, StorageSpec):
        return TensorInfo(
            name=name,
            dtype=value.dtype,
            shape=(value.numel,),
            nbytes=value.nbytes,
            kind="storage",
            storage=value.key,
            device=value.location,
        )
    if isinstance(value, TensorSpec):
        return _dense(name, value)
    short = value.global_name.rpartition(".")[2]
    spec = spec_of(value)
    if spec is not None:
        if "qtensor" in short:
            return _dense(name, spec, "quantised")
        is_parameter = "parameter" in short.lower()
        grad = is_parameter and len(value.args) > 1 and value.args[1] is True
        return _dense(name, spec, "parameter" if is_parameter else "tensor", requires_grad=grad)
    if value.kind == kinds.NPARRAY:
        return _array(name, value)
    return _other(name, short, value)


def _other(name: str, short: str, value: Call) -> TensorInfo:
    """A tensor that is no view of one storage."""
    parts = [part for part in _parts_of(value) if isinstance(part, TensorSpec)]
    nbytes = sum(part.nbytes for part in parts)
    if "sparse" in short:
        shape = next((part for part in value.args[1] if _is_shape(part)), ())
        return TensorInfo(name=name, dtype=parts[-1].dtype if parts else "", shape=tuple(shape), nbytes=nbytes, kind="sparse")
    if "meta" in short:
        dtype, shape = _dtype_name(value.args[0]), tuple(value.args[1])
        count = 1
        for size in shape:
            count *= size
        return TensorInfo(name=name, dtype=dtype, shape=shape, nbytes=count * DTYPE_BITS.get(dtype, 0) // 8, kind="meta", device="meta")
    array = next((part for part in value.args if isinstance(part, Call) and part.kind == kinds.NPARRAY), None)
    if array is not None:
        return _array(name, array)
    if parts:
        return TensorInfo(
            name=name, dtype=parts[0].dtype, shape=parts[0].shape, nbytes=nbytes, kind="nested" if "nested" in short else "tensor"
        )
    return TensorInfo(name=name, dtype=_dtype_name(value), shape=(0,), nbytes=0)


def _parts_of(value: Call) -> list[Any]:
    """The dense tensors among a call's arguments, one tuple deep."""
    items = (item for arg in value.args for item in (arg if isinstance(arg, tuple) else (arg,)))
    return [spec_of(item) or item for item in items]


def _is_shape(part: Any) -> bool:
    return isinstance(part, tuple) and all(type(size) is int for size in part)


def _dtype_name(value: Any) -> str:
    return value.name.removeprefix("torch.") if isinstance(value, Global) else ""


def _array(name: str, value: Call) -> TensorInfo:
    """A numpy array, as the build of a stream describes it: shape, dtype, order, bytes; of objects, shape and values."""
    shape = next((part for part in value.args if _is_shape(part)), ())
    given = next((part.args[0] for part in value.args if isinstance(part, Call) and part.kind == kinds.NPDTYPE and part.args), None)
    described = given if isinstance(given, ArrayType) else ArrayType("|O", 0)
    count = 1
    for size in shape:
        count *= size
    return TensorInfo(name=name, dtype=described.text, shape=shape, nbytes=count * described.itemsize, kind="array", device="cpu")


# ---- streams as code


def decompile(f: Any, *, lock: Any = None) -> str:
    """Show what each pickle stream of a file does as Python code, as fickling writes it. Nothing of it is run.

    Args:
        f: A path, a file object, bytes, or a model's name in the lockfile.
        lock: As for `safeload.load`.

    Returns:
        One block for each stream, under a comment that names it. Hostile characters are escaped.

    Raises:
        UnsupportedError: there is no pickle stream in the file, or fickling cannot write it as code.
        MalformedError: no reader claims the file.
    """
    with Source.open(Context.of({}, lock).target(f, remote=True).file) as source:
        contents, report = examine(source, Reading(), values=False)
        if source.failure is not None:
            raise source.failure
        if contents is None:
            raise MalformedError(report.error or "no reader claims the file", where=source.name)
        if not contents.parts:
            raise UnsupportedError(f"a {contents.format} file has no pickle stream", where=source.name)
        return "\n".join(_block(source.name, part) for part in contents.parts)


def _block(name: str, part: StreamPart) -> str:
    where = f"!{escape(part.member)}" if part.member is not None else ""
    where += f"@{part.offset}"
    try:
        code = _code(part)
    except SafeloadError as error:
        raise error.at(name + where) from None
    lines = (escape(line, 10_000) for line in code.splitlines())
    return "\n".join([f"# {name}{where}", *lines, ""])


def _code(part: StreamPart) -> str:
    end = part.walk.end or len(part.data)
    nbytes, opcodes = end - part.offset, part.walk.walker.opcodes
    if nbytes > _MOST_BYTES or opcodes > _MOST_OPCODES:
        raise UnsupportedError(
            f"a stream of {nbytes} bytes and {opcodes} opcodes; up to {_MOST_BYTES} bytes and {_MOST_OPCODES} opcodes are shown as code"
        )
    # fickling writes a shared value out wherever it stands, also while it interprets: values that double must not reach it.
    again = walk(part.data, part.offset, limits=Limits(expansion=_MOST_NODES), persistent=1)
    if again.error is not None:
        raise UnsupportedError(f"fickling cannot show this stream: {again.error}")
    try:
        from fickling.fickle import Pickled
    except ImportError:
        raise MissingExtraError("fickling is not installed", hint="pip install fickling") from None
    try:
        tree = Pickled.load(bytes(part.data[part.offset : end])).ast
        _check_size(tree)
        return ast.unparse(tree)
    except SafeloadError:
        raise
    except RecursionError:
        raise UnsupportedError("fickling cannot show this stream: it is nested too deep") from None
    except Exception as error:  # fickling raises what it likes on input that it does not know
        why = escape(str(error), 200) or type(error).__name__
        raise UnsupportedError(f"fickling cannot show this stream: {why}", hint="'safeload scan' reads it all the same") from error


def _check_size(tree: ast.AST) -> None:
    """Raise when the code would be far longer than the stream: values that were shared are written out each time."""
    budget = _MOST_NODES
    todo = [tree]
    while todo:
        budget -= 1
        if budget < 0:
            raise UnsupportedError("fickling cannot show this stream: written out, it would have too many parts")
        todo.extend(ast.iter_child_nodes(todo.pop()))

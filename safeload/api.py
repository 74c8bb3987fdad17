"""The pipeline, wired once: source → contents → report → decision → pin → objects."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from safeload.context import Context, Target
from safeload.errors import MalformedError, PinError, ProgramError, SafeloadError, SafeloadWarning, warn
from safeload.findings import Report
from safeload.formats import Contents
from safeload.lean_dataclass import replace
from safeload.policy import decide
from safeload.remote import Address
from safeload.reporting import examine
from safeload.source import Limits, Reading, Source

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    from safeload.gate import Original
    from safeload.lockfile import Pin
    from safeload.torch_arguments import Arguments
    from safeload.twins import Twin

__all__ = ["decided", "load", "load_with", "needs_digest", "scan", "scan_source"]


def scan(
    f: Any, *, policy: Any = None, lock: Any = None, digest: bool = False, limits: Limits | None = None, name: str | None = None
) -> Report:
    """Say what a file would do and whether policy allows it. Nothing in it is imported, called or built.

    Args:
        f: A path, a file object, bytes, a mapping, a model's name in the lockfile, or the address of a file (`https://`, `s3://`,
            `gs://`, `hf://` or any other that fsspec knows), of which only the ranges are read that the verdict needs.
        policy: A `Policy`, a mapping, a path, or None to look for one from the working directory upwards.
        lock: A lockfile's path; None to look for one; False for none. What a pin grants to these bytes counts.
        digest: Also hash the whole file.
        limits: Bounds on what reading may cost.
        name: What the report calls the file.

    Returns:
        The report, with its decision. Hostile or broken content is in the report, never an exception.

    Raises:
        FileNotFoundError, IsADirectoryError, PermissionError: as `open` does.
        PolicyError, LockfileError: what is in force is not valid.
        RemoteError: nothing, or nothing usable, is at the address.
    """
    context = Context.of(policy, lock)
    target = context.target(f, remote=True)
    reading = Reading(limits=limits or Limits())
    with Source.open(target.file, name=name, limits=reading.limits) as source:
        return scan_source(source, context, pin=target.pin, reading=reading, digest=digest)


def scan_source(
    source: Source, context: Context, *, pin: Pin | None = None, reading: Reading | None = None, digest: bool = False, part: bool = False
) -> Report:
    """Do what `scan` does, for a file that is open already.

    Args:
        source: The file.
        context: The policy and the lock in force.
        pin: The pin found by name or path; what it grants counts only for the bytes that it pins.
        reading: How.
        digest: Also hash the whole file.
        part: It is one of the files of an index.
    """
    contents, report = examine(source, reading or Reading())
    if contents is not None and contents.manifest is not None and report.error is None:
        from safeload.conversion.opening import value_findings

        report = replace(report, findings=(*report.findings, *value_findings(contents, source)))
    if needs_digest(report, context, digest=digest):
        from safeload.gate import sha256_and_tree

        try:
            sha256, tree = sha256_and_tree(source)
        except SafeloadError as error:
            report = replace(report, error=report.error or str(error))
        else:
            report = replace(report, sha256=sha256, sha256_tree=tree)
    report = replace(report, error=str(source.failure)) if source.failure is not None else report
    report = decided(replace(report, origin=source.origin_of_bytes), context, pin)
    if contents is None or contents.shards is None:
        return report
    from safeload.several import scan_several

    def one(file: Path | Address) -> Report:
        target = context.target(file)
        with Source.open(file, limits=source_limits) as shard:
            return scan_source(shard, context, pin=target.pin, reading=reading, digest=digest, part=True)

    source_limits = (reading or Reading()).limits
    return scan_several(contents, source, report, part=part, scan_one=one)


def _today() -> dt.date:
    import datetime as dt

    return dt.datetime.now(tz=dt.UTC).date()


def needs_digest(report: Report, context: Context, *, digest: bool = False) -> bool:
    """Whether a scan has to hash: because somebody asked, or because a pin of these very bytes may grant what they name."""
    return digest or (context.lock is not None and bool(report.unmodelled))


def decided(report: Report, context: Context, pin: Pin | None = None) -> Report:
    """Take the decision about evidence by the policy and the lock in force, as of today.

    Args:
        report: Whatever decision it has already is not looked at.
        context: The policy and the lock.
        pin: The pin found by name or path; where the digest is known, the one of these bytes takes its place.
    """
    grants: frozenset[str] = frozenset()
    if report.sha256 is not None:
        pin = context.by_digest(report.sha256)
        grants = frozenset(pin.file.allow_globals) if pin is not None else grants
    held = context.policy_for(pin)
    return replace(report, decision=decide(report, held, pin_grants=grants, today=_today() if held.suppress else None))


def load(
    f: Any,
    map_location: Any = None,
    pickle_module: Any = None,
    *,
    weights_only: Any = None,
    mmap: Any = None,
    policy: Any = None,
    lock: Any = None,
    unknown: str | None = None,
    group: Any = None,
    **pickle_load_args: Any,
) -> Any:
    """Load a checkpoint: like `torch.load`, with the pin checked and nothing from the file ever run.

    Args:
        f: A path, an open binary file, a model's name in the lockfile, or an address as for `scan`.
        map_location: As in torch: None, a device, a string, a dict of tags, or a callable.
        pickle_module: Has no meaning here, because no pickle module ever sees the file; anything but None is an error.
        weights_only: Accepted for compatibility. False does not run code: what policy allows is built, always.
        mmap: Map the file instead of copying it; None takes torch's configured default.
        policy: A `Policy`, a mapping, a path, or None to look for one from the working directory upwards.
        lock: A lockfile's path; None to look for one; False for none.
        unknown: "refuse" or "inert": what becomes of globals that are not modelled. Default: as policy says.
        group: A `torch.distributed` process group whose processes all make this call: each hashes its share of a pinned file's
            leaves, and all of them get their objects or none does.
        **pickle_load_args: `encoding` for Python 2 files, as in torch.

    Returns:
        What `torch.load` would give for everything that it loads.

    Raises:
        RefusedError: policy does not allow the file; lists every refused global at once.
        PinError: the bytes are not the pinned bytes.
        MalformedError: the file is not what it claims to be.
        GroupError: a process of the group is lost, or failed for a reason of its own.
        FileNotFoundError, IsADirectoryError, PermissionError: as `open` does.
    """
    from safeload.torch_arguments import Arguments

    arguments = Arguments.of(map_location, pickle_module, weights_only, mmap, unknown, pickle_load_args)
    if group is None:
        return load_with(f, Context.of(policy, lock), arguments, remote=True)
    from safeload.build.ranks import together

    with together(group) as ranks:
        return load_with(f, Context.of(policy, lock), replace(arguments, ranks=ranks), remote=True)


def load_with(
    f: Any, context: Context, arguments: Arguments, *, granted: bool = True, read: Callable[[Contents], None] | None = None,
    part: bool = False,
    remote: bool = False,
) -> Any:  # fmt: skip
    """Do what `load` does, with arguments that were checked and a context that is known.

    Args:
        f: As for `load`.
        context: The policy and the lock in force.
        arguments: Checked.
        granted: Whether classes that policy allows are made; without it they are inert data like all others.
        read: Told what the reader found, once the object is built.
        part: It is one of the files of an index.
        remote: Whether a text may be an address.
    """
    target = context.target(f, remote=remote)
    with _no_collections(), ExitStack() as stack:
        twin = _twin(context, target, arguments, stack, read)
        if twin is not None:
            try:
                return _load(twin.source, context, twin.target, arguments, granted=granted, read=read, part=part, original=twin.original)
            except (PinError, MalformedError) as error:
                if twin.kept is None:
                    raise
                from safeload.conversion.cache import TwinCache

                # A hint that does not prove itself is not used: the file that was asked for is there, and is judged as ever.
                TwinCache(twin.kept.path.parent).discard(twin.kept.source_sha256)
                warn(f"{twin.source.name}: dropped from the cache: {error.message}", SafeloadWarning)
        source = stack.enter_context(Source.open(target.file))
        return _load(source, context, target, arguments, granted=granted, read=read, part=part)


def _twin(
    context: Context, target: Target, arguments: Arguments, stack: ExitStack, read: Callable[[Contents], None] | None
) -> Twin | None:
    """The converted file that is loaded in the target's place; None where there is none, and nothing is imported to find that."""
    lock = context.lock
    if lock is None or not isinstance(target.file, str):
        return None
    if not context.policy.caches and all(file.converted is None for model in lock.models for file in model.files):
        return None
    from safeload.twins import twin_of

    # Caches differ from machine to machine, and processes of a group must all go the same way.
    found = twin_of(context, target, arguments.reading(), stack, cached=arguments.ranks is None)
    # What TorchScript's code says of its modules lies in the archive alone, and a caller with `read` asks for it.
    scripted = found is not None and read is not None and found.original.pin.file.format == "torchscript"
    return None if scripted else found


@contextmanager
def _no_collections() -> Iterator[None]:
    """Let the cycle collector rest while objects are only ever made.

    It would go through all of them again and again: a third of the time of a load of many small tensors.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _load(
    source: Source, context: Context, target: Target, arguments: Arguments, *, granted: bool, read: Callable[[Contents], None] | None,
    part: bool, original: Original | None = None,
) -> Any:  # fmt: skip
    from safeload.build.torch_tensors import build_torch
    from safeload.gate import Gate, announced, leaf_bytes, pinned_first, refuse_unreadable

    contents, report = examine(source, arguments.reading(), values=False)
    if contents is not None and contents.shards is not None:
        return _load_index(contents, source, context, target, report, arguments, granted=granted, part=part)
    unknown = arguments.unknown or context.policy_for(target.pin).unknown_globals
    built = contents is None or contents.built
    gate = Gate(context, target, source, report, inert=unknown == "inert", original=original, built=built)
    with announced(gate), pinned_first(gate):
        refuse_unreadable(source, contents, report)
        if contents is None:
            raise MalformedError("no reader claims the file", where=source.name)
        if contents.format == "torchscript" and arguments.weights_only:
            raise _program(source)
        if original is not None:
            from safeload.twins import require_twin

            require_twin(contents, gate)
        # Without a lock nothing but the report decides, so a refusal comes before the tensors' bytes are read.
        if not gate.needs_digest or not built:
            gate.match()
            gate.decide()
        try:
            contents.require_built()
        except SafeloadError as error:
            raise error.at(source.name) from None

        gate.recall()
        if arguments.ranks is not None:
            gate.meet(arguments.ranks)

        def before_build() -> None:
            gate.match()
            gate.decide()

        try:
            value = build_torch(
                contents,
                source,
                map_location=arguments.map_location,
                mmap=arguments.mmap,
                unknown=unknown,
                grants=gate.grants if granted else (),
                before_build=before_build if gate.needs_digest else _nothing,
                leaf=leaf_bytes() if gate.by_tree and not gate.stamped else None,
                check_crc=not (gate.by_tree or gate.stamped),
                described=_described(contents, source),
            )
        except SafeloadError as error:
            raise error.at(source.name) from error.__cause__
    if contents.end is not None:
        source.leave_at(contents.end)
    if read is not None:
        read(contents)
    return value


def _load_index(
    contents: Contents, source: Source, context: Context, target: Target, report: Report, arguments: Arguments, *, granted: bool,
    part: bool,
) -> Any:  # fmt: skip
    """The index passes its own gate first: it says which files belong together."""
    from safeload.gate import Gate, announced, pinned_first
    from safeload.several import load_several

    gate = Gate(context, target, source, report, inert=False)
    with announced(gate), pinned_first(gate):
        gate.match()
        gate.decide()
    return load_several(
        contents, source, context, arguments, granted=granted, part=part,
        load_one=lambda path: load_with(path, context, arguments, granted=granted, part=True),
    )  # fmt: skip


def _program(source: Source) -> ProgramError:
    hint = "safeload.state_dict(f) gives its weights, safeload.load(f) without weights_only its objects as data; neither runs its code"
    return ProgramError(
        "Cannot use ``weights_only=True`` with TorchScript archives passed to ``torch.load``", where=source.name, hint=hint
    ).under("SL216")


def _described(contents: Contents, source: Source) -> Any:
    """What a converted file says of the object that it was made from; None for any other."""
    if contents.format != "safetensors":
        return None
    from safeload.conversion import converted

    return converted(contents, source)


def _nothing() -> None:
    """The gate was passed before the bytes were read."""

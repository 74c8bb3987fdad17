"""What programs call: `convert` and `check`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeload.context import Context, Target
from safeload.conversion.comparing import NotTheSameError
from safeload.conversion.converting import convert_file, default_destination, opened_input
from safeload.conversion.job import Meter, Progress, prove, together
from safeload.conversion.joined import open_joined
from safeload.conversion.reading import Tape
from safeload.conversion.results import CheckResult, ConvertResult
from safeload.errors import ArgumentError, PinError, UsageError
from safeload.findings import escape
from safeload.formats.index_file import is_index, read_index
from safeload.formats.manifest import Manifest, beside_manifest, manifest_of
from safeload.path_arguments import path_text, system_said
from safeload.source import Limits, Reading, Source

if TYPE_CHECKING:
    from safeload.lockfile import Pin

__all__ = ["check", "convert", "source_digests"]


@system_said()
def convert(
    src: Any,
    dst: str | os.PathLike[str] | None = None,
    *,
    force: bool = False,
    state_dict: bool = False,
    dry_run: bool = False,
    max_shard_size: int | None = None,
    transformers: bool = False,
    strict: bool = False,
    record: bool = False,
    policy: Any = None,
    lock: Any = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> ConvertResult:
    """Convert a checkpoint into a safetensors file that holds all of it. Neither torch nor numpy is needed.

    Args:
        src: A path (of a checkpoint, or of the index of one in several files), a file object, or a model's name in the lockfile.
        dst: A path, or an existing directory; by default beside the source.
        force: Replace what is there.
        state_dict: Take the model's weights only, each contiguous, under the names that `state_dict()` gives.
        dry_run: Say what would be done, and write nothing.
        max_shard_size: Bytes of tensors in one file; more of them make several files and an index.
        transformers: As `state_dict`, for a directory that `from_pretrained` reads. Of tied weights it looks for one, which is written.
        strict: Refuse globals that are not modelled; by default their objects are kept as inert data.
        record: Pin the output in the lockfile as the converted twin of the source, which must be pinned: loads take it from then on.
        policy: As for `safeload.load`.
        lock: As for `safeload.load`; the bytes that are converted must be those of a pin that covers them.
        limits: Bounds on reading.
        progress: Told bytes done and bytes in all.

    Returns:
        What was written, and what of the source is where.

    Raises:
        RefusedError: the file is refused even as inert data, or (`strict`) names globals that are not modelled.
        PinError: the bytes are not the pinned bytes.
        SignatureError: a signature that a load would demand does not verify.
        MalformedError: the source is not what it claims to be.
        UsageError: the destination exists, is the source, or is a link; or the output cannot be a twin.
        UnsupportedError: there is no room, or the output did not stand the proof. Nothing was left behind.
    """
    if max_shard_size is not None and (type(max_shard_size) is not int or max_shard_size <= 0):
        raise ArgumentError("max_shard_size is a number of bytes above zero")
    context = Context.of(policy, lock)
    target = context.target(src)
    path = _destination(target.file, dst)
    if record:
        _check_record(context, target, path, keeps_all=not (state_dict or transformers or dry_run or max_shard_size is not None))

    def gate(sha256: str) -> None:
        pin = target.pin or context.by_digest(sha256)
        if pin is not None:
            from safeload.lockfile import require_match

            require_match(pin, size=None, sha256=sha256, where=escape(target.path or "", 500))
        _check_signed(context, target, pin, sha256)

    result = convert_file(
        target.file,
        path,
        force=force,
        strict=strict,
        dry_run=dry_run,
        max_shard_size=max_shard_size,
        weights_only=state_dict,
        transformers=transformers,
        policy=context.policy_for(target.pin),
        limits=limits,
        progress=progress,
        gate=gate,
    )
    if record and context.lock_path is not None:
        from safeload.conversion.twinning import record as write_down

        write_down(context.lock_path, target.file, result)
    return result


def _check_signed(context: Context, target: Target, pin: Pin | None, sha256: str) -> None:
    """What may only be loaded signed may only be converted signed: nothing asks for the signature of what was made of it.

    Files are opened once more, because some schemes can only hash the bytes by themselves; a digest says that they are the same.
    """
    if is_index(target.file):
        for path in read_index(Path(target.file))[1]:
            shard = context.target(path)
            _signed(context, shard, shard.pin, shard.pin.file.sha256 if shard.pin is not None else None)
        return
    _signed(context, target, pin, sha256)


def _signed(context: Context, target: Target, pin: Pin | None, sha256: str | None) -> None:
    held = context.policy_for(pin)
    if held.signature == "off" or (held.signature is None and not held.rules and (pin is None or pin.model.require is None)):
        return
    from safeload.signatures import demanded, require_signers

    if not demanded(held, pin.model if pin is not None else None):
        return
    with Source.open(target.file) as source:
        found = source.digest("sha256", hashlib.sha256)
        if sha256 is not None and found != sha256:
            both = {"expected": f"sha256:{sha256}", "found": f"sha256:{found}"}
            raise PinError("the file changed while it was converted", where=source.name, **both)
        require_signers(held, context.lock, context.lock_path, pin, source)


def _check_record(context: Context, target: Target, path: Path | None, *, keeps_all: bool) -> None:
    """Say before the work what would be said after it: why the output could not be pinned as a twin."""
    if context.lock_path is None:
        raise UsageError("no lockfile is in force", hint="'safeload lock --convert PATH' makes one, and pins and converts in one go")
    where = escape(target.path or "", 500)
    if target.pin is None:
        raise UsageError("no pin covers it", where=where, hint=f"'safeload lock --convert {where or 'PATH'}' pins and converts it")
    if not keeps_all or is_index(target.file):
        raise UsageError("a twin is one file that holds all of one file", where=where)
    from safeload.lockfile import lock_relative

    lock_relative(context.lock_path, path if path is not None else default_destination(target.file))


def _destination(src: Any, dst: str | os.PathLike[str] | None) -> Path | None:
    if dst is None:
        return None
    path = Path(path_text(dst, "dst"))
    if path.is_dir() and isinstance(src, (str, os.PathLike)):
        return path / default_destination(src).name
    return path


@system_said()
def check(
    src: Any, dst: str | os.PathLike[str], *, policy: Any = None, limits: Limits | None = None, progress: Progress | None = None
) -> CheckResult:
    """Prove that a converted file holds all that its source holds.

    Args:
        src: The source, as for `convert`.
        dst: The converted file, or the index of several.
        policy: As for `safeload.load`.
        limits: Bounds on reading.
        progress: Told bytes done and bytes in all.

    Returns:
        Whether it does, and the first difference.

    Raises:
        MalformedError: one of them is not what it claims to be.
        UsageError: `dst` has no manifest.
    """
    reading = Reading(limits=limits or Limits())
    path = Path(path_text(dst, "dst"))
    paths = read_index(path)[1] if is_index(path) else [path]
    with open_joined(paths, reading) as joined:
        manifest = manifest_of(joined.metadata[0], beside_manifest(joined.metadata[0], path.parent, reading.limits))
        if manifest is None:
            raise UsageError("it has no manifest: it was not made by 'safeload convert'", where=escape(str(path), 500))
        context = Context.of(policy, lock=False)
        room = path.parent if manifest.weights else None
        with opened_input(src, reading, context.policy, strict=False, limit=None, weights=room) as given:
            total = sum(source.size for source in given.sources) + joined.source.size
            meter = Meter(progress, total)
            difference = _digests(given.sources, manifest, meter)
            if difference:
                return CheckResult(same=False, difference=difference)
            try:
                proof = prove(given, manifest, joined, meter)
            except NotTheSameError as error:
                return CheckResult(same=False, difference=error.message)
            left_out = tuple(given.plan.left_out)
            return CheckResult(same=True, storages=proof.storages, nbytes=proof.nbytes, nodes=len(given.tree.nodes), left_out=left_out)


def _digests(sources: Sequence[Source], manifest: Manifest, meter: Meter) -> str:
    """Compare the sources' digests with those that the manifest names."""
    found = []
    for source in sources:
        with Tape(source, meter) as tape:
            found.append(tape.finish())
    sha256 = together(found)
    if sha256 != manifest.origin.sha256:
        return f"it was made from sha256:{manifest.origin.sha256}, and the source is sha256:{sha256}"
    return ""


def source_digests(paths: Sequence[Path], reading: Reading) -> str:
    """Return the digest by which a manifest names its source, or its sources together."""
    found = []
    for path in paths:
        with Source.open(path, limits=reading.limits) as source, Tape(source) as tape:
            found.append(tape.finish())
    return together(found)

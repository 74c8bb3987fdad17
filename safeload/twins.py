"""Safetensors first: where a pinned pickle has a converted twin, the twin is loaded, and the stream is never parsed.

A twin is pinned in the lockfile, or kept in the cache under the digest of what it was made from where policy says so. A file beside
the pickle that nobody pinned is never preferred. A pinned twin that is missing or is not what it was is an error: nothing falls
back to the pickle by itself. docs/decisions/0011 says why, docs/lockfile.md what holds.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from safeload.context import Context, Target
from safeload.errors import PinError
from safeload.findings import Report, escape
from safeload.formats import Contents
from safeload.gate import Gate, Original, sha256_and_tree
from safeload.lean_dataclass import dataclass, replace
from safeload.source import Reading, Source

if TYPE_CHECKING:
    from safeload.conversion.cache import Kept
    from safeload.lockfile import Pin

__all__ = ["Twin", "require_twin", "twin_of"]


@dataclass(frozen=True, slots=True)
class Twin:
    """What is loaded in the place of a pinned pickle.

    Attributes:
        source: The converted file, open.
        target: With its pin.
        original: What it stands for. Its bytes, where it is still there, were compared with its pin.
        kept: Where it lies in the cache; None when it is pinned in the lockfile.
    """

    source: Source
    target: Target
    original: Original
    kept: Kept | None = None


def twin_of(
    context: Context, target: Target, reading: Reading, stack: ExitStack, *, make: bool = True, cached: bool = True
) -> Twin | None:
    """Open the twin of what a load was asked for; None when it has none.

    Args:
        context: The policy and the lock in force.
        target: What was asked for.
        reading: How it would be read. A twin was made by the usual way of reading, and stands for no other.
        stack: Closes what is opened here.
        make: Convert a file into the cache that has no twin there yet.
        cached: Look into the cache at all.

    Raises:
        PinError: the file is not the pinned one, or its pinned twin is not there.
    """
    if not isinstance(target.file, str) or context.lock is None or context.lock_path is None or reading != Reading():
        return None
    pin, source = target.pin, None
    if pin is None:
        pin, source = _by_bytes(context, target, stack)
    if pin is None:
        return None
    if pin.file.converted is not None:
        return _pinned(context, replace(target, pin=pin), pin, source, stack)
    if cached and context.policy_for(pin).convert == "cache":
        return _kept(context, replace(target, pin=pin), pin, source, stack, make=make)
    return None


def require_twin(contents: Contents, gate: Gate) -> None:
    """Compare what a converted file says of its source with the pin of the source; the file's own digest comes first.

    Args:
        contents: What the reader found in the twin.
        gate: Of its load.

    Raises:
        PinError: it is not the pinned file, was made from other bytes, or does not hold all of them.
    """
    manifest, original = contents.manifest, gate.original
    if original is None:
        return
    pinned = original.pin.file.sha256
    if manifest is not None and not manifest.weights and manifest.origin.sha256 == pinned:
        return
    gate.match()
    where, hint = gate.source.name, original.hint
    if manifest is None or manifest.weights:
        what = "has no manifest" if manifest is None else "holds the weights only"
        raise PinError(f"the converted twin {what}", where=where, hint=hint).under("SL601")
    expected, found = f"sha256:{pinned}", f"sha256:{manifest.origin.sha256}"
    text = f"the converted twin was made from other bytes: pinned {expected}, made from {found}"
    raise PinError(text, where=where, hint=hint, expected=expected, found=found).under("SL601")


def _by_bytes(context: Context, target: Target, stack: ExitStack) -> tuple[Pin | None, Source | None]:
    """The pin of a file that lies elsewhere, found by its digest, where a file of this size might have a twin."""
    path, lock = target.path, context.lock
    if path is None or lock is None:
        return None, None
    try:
        size = Path(path).stat().st_size
    except (OSError, ValueError):
        return None, None  # whoever opens it says what is wrong
    files = (file for model in lock.models for file in model.files if file.size == size)
    if not any(context.policy.caches or file.converted is not None for file in files):
        return None, None
    source = stack.enter_context(Source.open(path))
    return context.by_digest(sha256_and_tree(source)[0]), source


def _pinned(context: Context, target: Target, pin: Pin, source: Source | None, stack: ExitStack) -> Twin:
    from safeload.lockfile import Pin, locate

    file = pin.file.twin
    if file is None or context.lock_path is None:
        raise AssertionError
    original = _original(context, target, pin, source, stack)
    path = locate(context.lock_path, file.path)
    try:
        opened = stack.enter_context(Source.open(path))
    except FileNotFoundError:
        raise PinError("the converted twin is not there", where=escape(str(path), 1000), hint=original.hint).under("SL601") from None
    found = Pin(model=pin.model, file=file, path=path, matched_by=pin.matched_by)
    return Twin(opened, Target(str(path), found, str(path)), original)


def _original(context: Context, target: Target, pin: Pin, source: Source | None, stack: ExitStack) -> Original:
    """Compare the file that was asked for with its pin, without parsing it; it need not be there any more."""
    if source is None:
        try:
            source = stack.enter_context(Source.open(target.file))
        except FileNotFoundError:
            return Original(pin, None)
    report = Report(path=source.name, format=pin.file.format or "unknown", size=source.size)
    gate = Gate(context, target, source, report, inert=False)
    gate.recall()
    gate.match()
    return Original(pin, source)


def _kept(context: Context, target: Target, pin: Pin, source: Source | None, stack: ExitStack, *, make: bool) -> Twin | None:
    """A twin out of the cache, made now when it is not there yet; None where it cannot be made or kept."""
    from safeload.conversion.cache import CONVERTIBLE, TwinCache
    from safeload.lockfile import LockedFile, Pin

    cache = TwinCache.here() if pin.file.format in CONVERTIBLE else None
    if cache is None:
        return None
    original = _original(context, target, pin, source, stack)
    if original.source is None:
        return None  # only the lockfile can say that something stands for a file that is gone
    kept = cache.find(pin.file.sha256)
    if kept is None and make:
        kept = cache.make(original.source, pin.file.sha256, context.policy_for(pin))
    if kept is None:
        return None
    try:
        opened = stack.enter_context(Source.open(kept.path))
    except OSError:
        return None  # somebody made room meanwhile
    file = LockedFile(
        path=pin.file.path, size=kept.size, sha256=kept.sha256, sha256_tree=kept.sha256_tree, format="safetensors",
        allow_globals=pin.file.allow_globals,
    )  # fmt: skip
    found = Pin(model=pin.model, file=file, path=kept.path, matched_by=pin.matched_by)
    return Twin(opened, Target(str(kept.path), found, str(kept.path)), original, kept)



"""A checkpoint in several files, known by its index: each file goes its own way through pin, digest and decision.

Nothing is given back before all of them have passed. Files that `safeload convert` wrote together hold one object, which is put
together from all of them; of any others each holds some of the names, and the index must say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safeload.context import Context
from safeload.conversion.joined import join
from safeload.conversion.opening import converted
from safeload.errors import MalformedError, SafeloadError
from safeload.findings import Decision, Finding, Outcome, Report, escape
from safeload.formats import Contents
from safeload.formats.index_file import files_of
from safeload.formats.manifest import SIDECAR_KEY
from safeload.formats.safetensors_file import SafetensorsFile
from safeload.gate import Gate, announced, pinned_first, refuse_unreadable
from safeload.lean_dataclass import replace
from safeload.remote import Address
from safeload.reporting import examine
from safeload.source import Reading, Source
from safeload.torch_arguments import Arguments
from safeload.walk.model import Unknown

__all__ = ["check_names", "load_several", "scan_several"]


def load_several(
    contents: Contents, source: Source, context: Context, arguments: Arguments, *, granted: bool, part: bool,
    load_one: Callable[[Path], Any],
) -> Any:  # fmt: skip
    """Load the files of an index as one.

    Args:
        contents: The index, which has passed its own gate.
        source: The same file.
        context: The policy and the lock in force; every file is covered by a pin of its own.
        arguments: Of the load.
        granted: Whether classes that policy allows are made.
        part: The index is itself named by an index.
        load_one: Loads one file, as if it had been asked for.

    Returns:
        For the output of a conversion, the object that was converted; else a dict of everything that the files hold.

    Raises:
        MalformedError: a file does not hold what the index says.
        RefusedError, PinError: one of the files does not pass.
    """
    shards = contents.shards or {}
    paths = files_of(contents, source, part=part)
    if _is_output(paths[0]):
        return _load_output(shards, paths, source, context, arguments, granted=granted)
    found: dict[Any, Any] = {}
    for path in paths:
        value = load_one(path)
        where = escape(str(path), 500)
        if not isinstance(value, Mapping):
            raise MalformedError(f"one of several files, and it holds {escape(type(value).__name__)}, no mapping", where=where)
        check_names(value, {name for name, file in shards.items() if file == path.name}, where)
        found.update(value)
    return found


def check_names(found: Mapping[Any, Any], wanted: set[str], where: str) -> None:
    """Compare what one file holds with what the index says.

    Raises:
        MalformedError: they differ.
    """
    odd = next((key for key in found if type(key) is not str or key not in wanted), None)
    if odd is not None:
        raise MalformedError(f"holds {escape(repr(odd), 80)}, which the index does not place here", where=where)
    if len(found) != len(wanted):
        missing = next(name for name in wanted if name not in found)
        raise MalformedError(f"does not hold '{escape(missing, 80)}', which the index places here", where=where)


def _is_output(path: Path) -> bool:
    """Whether a file says that it is a part of a conversion's output. What it says is checked when it is read as one."""
    with Source.open(path) as source:
        reader = SafetensorsFile()
        return reader.claims(source) and SIDECAR_KEY in reader.read(source, Reading()).metadata


def _load_output(
    shards: Mapping[str, str], paths: Sequence[Path], index: Source, context: Context, arguments: Arguments, *, granted: bool
) -> Any:
    """Build the one object that a conversion cut into several files."""
    from safeload.build.torch_tensors import build_torch

    with ExitStack() as stack:
        parts: list[tuple[Source, Contents]] = []
        gates: list[Gate] = []
        unknown: Unknown = "inert"
        for path in paths:
            target = context.target(path)
            source = stack.enter_context(Source.open(target.file))
            contents, report = examine(source, arguments.reading(), values=False)
            held = arguments.unknown or context.policy_for(target.pin).unknown_globals
            unknown = "refuse" if held == "refuse" else unknown
            gate = Gate(context, target, source, report, inert=held == "inert")
            stack.enter_context(announced(gate))
            stack.enter_context(pinned_first(gate))
            refuse_unreadable(source, contents, report)
            if contents is None or contents.table is None:
                raise MalformedError("one of several files of tensors, and it is none", where=source.name)
            check_names(contents.table, {name for name, file in shards.items() if file == path.name}, source.name)
            parts.append((source, contents))
            gates.append(gate)
        whole, joined = join(parts, index.name)
        described = converted(joined, whole, directory=paths[0].parent)
        if described is None:
            raise MalformedError("the files do not say which object they were made from", where=index.name).under("SL401")
        early = not any(gate.needs_digest for gate in gates)
        if early:  # nothing but the reports decides
            _pass(gates)
        try:
            return build_torch(
                joined, whole, map_location=arguments.map_location, mmap=False, unknown=unknown,
                grants=lambda: frozenset.intersection(*(gate.grants() for gate in gates)) if granted else frozenset(),
                before_build=None if early else lambda: _pass(gates), described=described,
            )  # fmt: skip
        except SafeloadError as error:
            raise error.at(index.name) from error.__cause__


def _pass(gates: Sequence[Gate]) -> None:
    """Let all files through, or none."""
    for gate in gates:
        gate.match()
    for gate in gates:
        gate.decide()


# ---- evidence


def scan_several(contents: Contents, source: Source, own: Report, *, part: bool, scan_one: Callable[[Path | Address], Report]) -> Report:
    """The report of an index: its own, and what is in its files.

    Args:
        contents: The index.
        source: The same file.
        own: Its report, with its decision.
        part: The index is itself named by an index.
        scan_one: Scans one file, by its path or, as the index, by its address.
    """
    try:
        files: list[tuple[str, Path | Address]] = []
        if source.address is not None and not part:
            files += ((name, source.address.beside(name)) for name in dict.fromkeys((contents.shards or {}).values()))
        else:
            files += ((path.name, path) for path in files_of(contents, source, part=part))
        reports = [(name, scan_one(file)) for name, file in files]
    except SafeloadError as error:
        return _unclear(own, str(error))
    except OSError as error:
        return _unclear(own, f"a file that it names cannot be read: {escape(str(error.filename), 500)}: {error.strerror}")
    names = sorted({name for _, report in reports for name in report.globals})
    unmodelled = dict.fromkeys(name for _, report in reports for name in report.unmodelled)
    findings = [found for name, report in reports for found in _inside(name, report)]
    errors = [f"{escape(name)}: {report.error}" for name, report in reports if report.error is not None]
    return replace(
        own, globals=tuple(names), unmodelled=tuple(unmodelled), findings=(*own.findings, *findings), error=errors[0] if errors else None,
        decision=_together([("", own.decision), *((name, report.decision) for name, report in reports)]),
    )  # fmt: skip


def _unclear(own: Report, why: str) -> Report:
    return replace(own, error=why, decision=Decision(outcome=Outcome.ERROR, reasons=(why,)))


def _inside(name: str, report: Report) -> list[Finding]:
    """The findings of one file, each with the file before its member."""
    return [replace(found, member=f"{name}!{found.member}" if found.member is not None else name) for found in report.findings]


def _together(decisions: Sequence[tuple[str, Decision]]) -> Decision:
    """Refused when one is, else unclear when one is: several files are as good as the worst of them."""
    outcomes = {decision.outcome for _, decision in decisions}
    outcome = next((worst for worst in (Outcome.REFUSED, Outcome.ERROR) if worst in outcomes), Outcome.ALLOWED)
    reasons = [f"{escape(name)}: {reason}" if name else reason for name, decision in decisions for reason in decision.reasons]
    refused = dict.fromkeys(name for _, decision in decisions for name in decision.refused_globals)
    return Decision(outcome=outcome, reasons=tuple(reasons), refused_globals=tuple(refused))

"""`safeload load`: a dry run. Would the file load here, and why?"""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from safeload.cli.lock_command import STATUS
from safeload.cli.options import PATH, force_option, format_option, lock_option, output_option, policy_option, quiet_option
from safeload.cli.output import Line, as_json, check_output, emit, outcome_style, place, summary
from safeload.cli.render.json_output import path_text
from safeload.context import Context, Target
from safeload.errors import RefusedError, SafeloadError
from safeload.findings import Outcome, Report, escape
from safeload.gate import Gate, refuse_unreadable
from safeload.lockfile import Pin
from safeload.policy import CHOICES, Policy
from safeload.reporting import examine
from safeload.source import Reading, Source
from safeload.twins import require_twin, twin_of

__all__ = ["command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """Whether a file would load, and what that rests on."""

    path: str
    report: Report
    outcome: Outcome
    pin: Pin | None
    policy: Policy
    context: Context
    error: SafeloadError | None = None
    twin: str | None = None


@click.command(name="load")
@click.argument("path", type=PATH)
@click.option("--inert", is_flag=True, help='Ask for a load with unknown="inert": unknown globals become inert data.')
@format_option("text", "json")
@output_option
@force_option("Overwrite the file that --output names.")
@quiet_option
@policy_option
@lock_option
def command(
    path: str, inert: bool, kind: str, output: Path | None, force: bool, quiet: bool, policy: str | None, lock: str | None
) -> int:  # fmt: skip
    """Say whether a file would load here, and why. Nothing is built.

    Shows the decision, the pin that covers the file, and the policy and lockfile in force. PATH may be a model's name.

    Exit status: 0 it would load, 1 it would be refused, 2 it could not be read.
    """
    check_output(output, force=force)
    answer = _ask(path, Context.of(policy, lock), inert=inert)
    emit(_json(answer) if kind == "json" else _lines(answer), output, force=force)
    if answer.outcome is Outcome.ALLOWED:
        there = importlib.util.find_spec("torch") is not None
        rest = "" if there else "; torch is not installed here, and building tensors needs it: pip install 'safeload[torch]'"
        summary([("allowed: it would load", outcome_style(answer.outcome)), (rest, "")], quiet=quiet)
    else:
        summary([(f"{answer.outcome.value}: it would not load", outcome_style(answer.outcome))], quiet=quiet)
    return STATUS[answer.outcome]


def _ask(path: str, context: Context, *, inert: bool) -> _Answer:
    """Go the way of a load up to the point where something would be built."""
    target = context.target(path, remote=True)
    with ExitStack() as stack:
        try:
            twin = twin_of(context, target, Reading(), stack, make=False)
        except SafeloadError as error:
            report = Report(path=target.path or path, format=target.pin.file.format or "data" if target.pin is not None else "unknown")
            return _answer(path, context, target, report, target.pin, error)
        original = twin.original if twin is not None else None
        wanted = twin.target if twin is not None else target
        source = twin.source if twin is not None else stack.enter_context(Source.open(target.file))
        contents, report = examine(source)
        held = context.policy_for(target.pin)
        gate = Gate(context, wanted, source, report, inert=inert or held.unknown_globals == "inert", original=original)
        try:
            gate.match()
            refuse_unreadable(source, contents, report)
            if contents is not None:
                require_twin(contents, gate)
            gate.decide()
            if contents is not None:
                contents.require_built()
        except SafeloadError as error:
            problem: SafeloadError | None = error
        else:
            problem = None
        pinned = original.pin if original is not None else gate.pin or target.pin
        return _answer(path, context, target, gate.report, pinned, problem, twin=source.name if twin is not None else None)


def _answer(
    path: str, context: Context, target: Target, report: Report, pin: Pin | None, problem: SafeloadError | None, twin: str | None = None
) -> _Answer:
    outcome = Outcome.ALLOWED if problem is None else Outcome.REFUSED if isinstance(problem, RefusedError) else Outcome.ERROR
    return _Answer(
        path=target.path or path, report=report, outcome=outcome, pin=pin, policy=context.policy_for(pin), context=context,
        error=problem, twin=twin,
    )  # fmt: skip


def _lines(answer: _Answer) -> list[Line]:
    head: list[tuple[str, str]] = [(escape(answer.path, 1000), "bold"), (f"  {answer.report.format}  ", "")]
    # A load that knows its pin takes the tree digest alone, and so does this one.
    digests = {"sha256": answer.report.sha256, "sha256-tree": answer.report.sha256_tree}
    head += [(f"{algorithm}:{value[:12]}  ", "dim") for algorithm, value in digests.items() if value is not None][:1]
    lines: list[Line] = [[*head, (answer.outcome.value, outcome_style(answer.outcome))]]
    if answer.error is not None:
        # The first line has the file's name already; every line of the message was escaped where it was made.
        text = answer.error.message + (f"\nhint: {answer.error.hint}" if answer.error.hint else "")
        lines += [[(f"  {line}", "")] for line in text.split("\n")]
    lock_path = answer.context.lock_path
    pin = answer.pin
    covered = "none" if pin is None else f'"{escape(pin.model.name)}" by {pin.matched_by}, {pin.file.digest.short}'
    lines.append([("  pin     ", "bold"), (covered, "")])
    if answer.twin is not None:
        lines.append([("  twin    ", "bold"), (f"{place(answer.twin)} is loaded in its place", "")])
    lines.append([("  lock    ", "bold"), ("none in force" if lock_path is None else place(lock_path), "")])
    lines.append([("  policy  ", "bold"), (place(answer.policy.origin) if answer.policy.origin else "none found: defaults", "")])
    lines += [[(f"          {text}", "dim")] for text in _settings(answer.policy)]
    return lines


def _settings(policy: Policy) -> list[str]:
    """What the policy says about a load, one key a line; what is as by default is left out."""
    default = Policy()
    keys = [key.replace("-", "_") for key in CHOICES]
    said = [f'{key.replace("_", "-")} = "{getattr(policy, key)}"' for key in keys if getattr(policy, key) != getattr(default, key)]
    return said + [f"allow-globals: {escape(name)}" for name in policy.allow_globals]


def _json(answer: _Answer) -> str:
    pin = answer.pin
    document: dict[str, Any] = {
        "version": 1,
        "path": path_text(answer.path),
        "format": answer.report.format,
        "size": answer.report.size,
        "sha256": answer.report.sha256,
        "sha256-tree": answer.report.sha256_tree,
        "decision": answer.outcome.value,
        "pin": None
        if pin is None
        else {"model": pin.model.name, "path": pin.file.path, "matched-by": pin.matched_by, "sha256": pin.file.sha256},
        "twin": None if answer.twin is None else path_text(answer.twin),
        "lock": None if answer.context.lock_path is None else path_text(str(answer.context.lock_path)),
        "policy": None if answer.policy.origin is None else path_text(answer.policy.origin),
        "error": None
        if answer.error is None
        else {"message": answer.error.message, "where": answer.error.where, "hint": answer.error.hint, "rule": answer.error.rule or None},
    }
    return as_json(document)

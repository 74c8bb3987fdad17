"""The one message of a refusal: all that stands in the way, what each global is for, and the ways that are open.

A way is offered only where it leads somewhere: no grant for what can never be granted, no inert data where inert data are
refused too. Nobody is ever told to run what is in the file.
"""

from __future__ import annotations

import shlex
from typing import Final

from safeload.errors import ContradictionError, MalformedError, PinError, RefusedError, RefusedFormatError, SafeloadError
from safeload.findings import Decision, Finding, Level, Outcome, Report, escape
from safeload.policy import INERT_RULES, denied_reason, snippet
from safeload.profiles import is_known
from safeload.source import Source

__all__ = ["refusal"]

_DANGEROUS: Final = frozenset({"SL101", "SL102", "SL106", "SL107", "SL108"})
_BLOCKED: Final = ("sys", "os", "posix", "nt")
_MOST_NAMES: Final = 20
_COLUMN: Final = 24


def refusal(source: Source, report: Report, decision: Decision, *, built: bool = True) -> SafeloadError:
    """Make the error for a file that policy does not allow.

    Args:
        source: What was to be loaded; for its name.
        report: The evidence.
        decision: Not "allowed".
        built: Whether a load would have had something to make of the file.
    """
    name, reasons = source.name, decision.reasons
    if decision.outcome is Outcome.ERROR:
        return MalformedError("; ".join(reasons) or "no verdict was possible", where=name)
    if len(reasons) == 1 and reasons[0].endswith("[SL602]"):
        hint = f"'safeload lock {_shell(source)}' adds one; 'unpinned' in the policy decides what happens"
        return PinError("refused: no pin covers the file [SL602]", where=name, hint=hint).under("SL602")
    findings = tuple(found for found in report.findings if found.level != Level.NOTE)
    # As decision.reasons: errors first.
    first = min(findings, key=lambda found: found.level is not Level.ERROR, default=None)
    where = name + (first.where if first is not None and len(reasons) == 1 else "")
    message = f"refused: {reasons[0]}" if len(reasons) == 1 else "\n  ".join(["refused, for more than one reason:", *reasons])
    hint = "\n".join(_hint(source, report, findings, decision.refused_globals))
    contradictory = any(_is_contradiction(found.rule) for found in findings)
    kind = ContradictionError if contradictory else RefusedError if built else RefusedFormatError
    error = kind(message, where=where, hint=hint, findings=findings, globals=decision.refused_globals)
    return error.under(first.rule) if first is not None else error


def _is_contradiction(rule: str) -> bool:
    """Whether a rule is about how something is written, and not about what it asks for."""
    return rule.startswith(("SL12", "SL2", "SL3", "SL4", "SL5"))


def _hint(source: Source, report: Report, findings: tuple[Finding, ...], refused: tuple[str, ...]) -> list[str]:
    """What to do next, as lines."""
    scan = f"safeload scan {_shell(source)} shows every finding" if source.path is not None else "safeload.scan(f) shows every finding"
    blockers = [found for found in findings if found.rule != "SL602"]
    dangerous = any(found.rule in _DANGEROUS for found in blockers)
    if not all(found.rule in INERT_RULES for found in blockers):
        rule = next(found.rule for found in blockers if found.rule not in INERT_RULES)
        return [f"{scan}, safeload explain {rule} says what one means"]
    lines = [f"the file asks for code to run, which weights never need: find out who made it; {scan}" if dangerous else scan]
    lines += _ways(source, report)
    if not dangerous and all(found.rule == "SL103" for found in blockers):
        lines += _grants(source, refused)
    return [*lines, *_torchs_words(refused)]


def _torchs_words(refused: tuple[str, ...]) -> list[str]:
    """What `torch.load` says of the first refused global: programs and people search for that text."""
    if not refused:
        return []
    name = escape(refused[0])
    module, short = name.rpartition(".")[0], name.removeprefix("builtins.")
    if module in _BLOCKED:
        words = f"Trying to load unsupported GLOBAL {name} whose module {module} is blocked"
        return [_way("in torch's words", f"Weights only load failed. {words}")]
    words = f"Weights only load failed. Unsupported global: GLOBAL {short} was not an allowed global by default"
    if denied_reason(refused[0]) is None:
        words += f"; use `torch.serialization.add_safe_globals([{short}])` or the policy to allowlist it"
    return [_way("in torch's words", words)]


def _ways(source: Source, report: Report) -> list[str]:
    """Ways to what is in the file that run nothing of it."""
    python = f'"{source.name}"' if _is_plain(source) else "f"
    ways = []
    if report.format.startswith("torch"):
        ways.append(_way("the weights alone", f"safeload.state_dict({python})"))
    data = f'safeload.load({python}, unknown="inert")'
    ways.append(_way("everything, as data", f"safeload.plain({data})" if any(map(is_known, report.unmodelled)) else data))
    if source.path is not None and report.format.startswith("torch"):
        ways.append(_way("a file without code", f"safeload convert {_shell(source)}"))
    return ways


def _grants(source: Source, refused: tuple[str, ...]) -> list[str]:
    """How to allow the classes themselves; or why that is not possible."""
    never = [(name, reason) for name in refused if (reason := denied_reason(name)) is not None]
    if never or not refused:
        return [_way("not to be granted", f"{escape(name)}: {reason}") for name, reason in never[:_MOST_NAMES]]
    lines = []
    if source.path is not None and len(refused) <= _MOST_NAMES:
        options = " ".join(f"--allow-global {name}" for name in refused)
        lines.append(_way("the classes, this file", f"safeload lock {_shell(source)} {options}"))
    lines.append(_way("the classes, any file", "in safeload.toml or pyproject.toml, if you trust whoever makes such files:"))
    offered = refused[: 5 * _MOST_NAMES]
    lines += [f"      {line}" for line in snippet(offered).splitlines()]
    if len(offered) < len(refused):
        lines.append(f"      # and {len(refused) - len(offered)} more: RefusedError.globals has them all")
    return lines


def _way(what: str, how: str) -> str:
    return f"    {what:<{_COLUMN}}{how}"


def _is_plain(source: Source) -> bool:
    """Whether a path can be shown in code as it is."""
    return source.path is not None and source.path == source.name and not set(source.name) & set("\"'\\")


def _shell(source: Source) -> str:
    return shlex.quote(source.name) if source.path == source.name else "FILE"

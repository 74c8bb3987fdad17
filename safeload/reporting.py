"""From what a reader found to a report: all findings of all streams, each with its member."""

from __future__ import annotations

from collections.abc import Iterator

from safeload.errors import ArgumentError, SafeloadError
from safeload.findings import Finding, Level, Report, Stream
from safeload.formats import Contents, StreamPart, read
from safeload.lean_dataclass import replace
from safeload.rules import RULES
from safeload.source import Reading, Source

__all__ = ["examine", "report_of"]


def examine(source: Source, reading: Reading | None = None, *, values: bool = True) -> tuple[Contents | None, Report]:
    """Read one file and report what is in it.

    Args:
        source: The file.
        reading: How.
        values: Also look at values (sizes, bounds), by a build that makes none. A load leaves it out: it builds for real.

    Raises:
        ArgumentError: the caller's object reads text, or more than it was asked for.

    Returns:
        What the reader found (None when no reader claims the file), and the report without a decision.
    """
    reading = reading or Reading()
    try:
        contents = read(source, reading)
        said = _diagnosis(source) if contents is None else None
    except ArgumentError:  # the caller's object is no binary file; nothing was said about content
        raise
    except SafeloadError as error:
        return None, Report(path=source.name, format="unknown", size=source.size, error=str(error))
    if contents is not None:
        report = report_of(source, contents, values=values)
        return contents, report if source.failure is None else _cut_short(report, source.failure)
    if source.failure is not None:
        return None, Report(path=source.name, format="unknown", size=source.size, error=str(source.failure))
    assert said is not None
    rule, message, hint = said
    finding = Finding(rule=rule, level=RULES[rule].level, message=message)
    text = f"{message}; {hint}" if hint else message
    return None, Report(path=source.name, format="unknown", size=source.size, findings=(finding,), error=text)


def _diagnosis(source: Source) -> tuple[str, str, str]:
    """What a file is that no reader claims: rule, message, hint."""
    from safeload.formats.not_a_model import diagnose

    return diagnose(source)


def _cut_short(report: Report, failure: SafeloadError) -> Report:
    """Of a file elsewhere that could not be read on: what a reader made of that says nothing about the file, what it saw before does."""
    seen = tuple(finding for finding in report.findings if failure.message not in finding.message)
    return replace(report, findings=seen, error=str(failure))


def report_of(source: Source, contents: Contents, *, values: bool = True) -> Report:
    """Gather the evidence of one file."""
    findings = list(contents.findings)
    names: dict[str, None] = {}
    unmodelled: dict[str, None] = {}
    for part in contents.parts:
        names.update(dict.fromkeys(part.walk.globals))
        unmodelled.update(dict.fromkeys(part.walk.unmodelled))
        findings += (replace(found, member=part.member) for found in part.walk.findings)
        if values and contents.error is None:
            findings += _values(part)
    streams = tuple(
        Stream(
            member=part.member,
            offset=part.offset,
            nbytes=(part.walk.end or part.walk.error_offset) - part.offset,
            protocol=part.walk.walker.protocol,
            opcodes=part.walk.walker.opcodes,
        )
        for part in contents.parts
    )
    error = contents.error
    if error is None:
        error = next((f"the stream breaks: {part.walk.error}" for part in contents.parts if part.walk.error), None)
    return Report(
        path=source.name,
        format=contents.format,
        size=source.size,
        globals=tuple(sorted(names)),
        unmodelled=tuple(unmodelled),
        findings=tuple(dict.fromkeys(findings)),
        streams=streams,
        metadata=dict(contents.metadata),
        error=error,
    )


def _values(part: StreamPart) -> Iterator[Finding]:
    """What only values show: tensors outside their storage, arrays of the wrong length, state of the wrong form."""
    if part.walk.end is None or part.judged or not part.walk.needs_build:
        return
    if any(found.level is not Level.NOTE for found in part.walk.findings):
        return  # refused anyway, and values over what is not modelled would only break in its wake
    from safeload.walk.model import Model, build

    try:
        build(part.walk, Model(part.walk, unknown="inert", persistent=part.persistent))
    except SafeloadError as error:
        rule = error.rule or "SL303"
        at = error.where.rpartition("@")[2]
        offset = int(at) if at.isdigit() else None
        level = Level.WARNING if rule == "SL104" else RULES[rule].level
        yield Finding(rule=rule, level=level, message=error.message, member=part.member, offset=offset)
    except MemoryError:
        yield Finding(rule="SL127", level=Level.ERROR, message="needs more memory than there is", member=part.member)

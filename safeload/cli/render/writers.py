"""Results of a scan, written while it goes on. One writer for each format; what grows with the number of files waits on the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from safeload.cli.output import plain
from safeload.cli.scanning import Scanned, ScanResult, Totals
from safeload.cli.sink import Sink, Spool
from safeload.findings import Outcome
from safeload.scanning import Skipped

__all__ = ["FORMATS", "ScanWriter", "writer"]

_LISTED: Final = 1000  # allowed and skipped files that a document for people lists


class ScanWriter(Protocol):
    """Takes what comes of a scan, in order."""

    def file(self, scanned: Scanned) -> None:
        """A file with a verdict, or without one that should have it."""
        ...

    def skipped(self, item: Skipped) -> None:
        """A file that needs none."""
        ...

    def end(self, totals: Totals) -> None:
        """That was all."""
        ...


class _Text:
    """Every file with its findings, then what was skipped."""

    def __init__(self, sink: Sink) -> None:
        from safeload.cli.render import text_output

        self._as, self._sink, self._later = text_output, sink, Spool()

    def file(self, scanned: Scanned) -> None:
        self._sink.lines(self._as.file_lines(scanned))

    def skipped(self, item: Skipped) -> None:
        self._later.file.write(plain([self._as.skipped_line(item)]))

    def end(self, totals: Totals) -> None:
        self._sink.spooled(self._later)


class _Json:
    """The contract's object, indented as `json.dumps` would."""

    def __init__(self, sink: Sink) -> None:
        from safeload.cli.render import json_output

        self._as, self._sink, self._later = json_output, sink, Spool()
        self._any = {"files": False, "skipped": False}
        sink.write('{\n  "version": 1,\n  "files": [')

    def file(self, scanned: Scanned) -> None:
        self._sink.write(self._next("files") + _indented(self._as.file_json(scanned), 4))

    def skipped(self, item: Skipped) -> None:
        self._later.file.write(self._next("skipped") + _indented(self._as.skipped_json(item), 4))

    def end(self, totals: Totals) -> None:
        self._sink.write(("\n  ]" if self._any["files"] else "]") + ',\n  "skipped": [')
        self._sink.spooled(self._later)
        self._sink.write("\n  ]" if self._any["skipped"] else "]")
        self._sink.write(f',\n  "summary": {_indented(self._as.summary_json(totals), 2)}\n}}\n')

    def _next(self, what: str) -> str:
        comma = "," if self._any[what] else ""
        self._any[what] = True
        return f"{comma}\n    "


class _JsonLines:
    """One object on each line: files, skipped files as they come, the summary last."""

    def __init__(self, sink: Sink) -> None:
        from safeload.cli.render import json_output

        self._as, self._sink = json_output, sink

    def file(self, scanned: Scanned) -> None:
        self._line({"kind": "file", **self._as.file_json(scanned)})

    def skipped(self, item: Skipped) -> None:
        self._line({"kind": "skipped", **self._as.skipped_json(item)})

    def end(self, totals: Totals) -> None:
        self._line({"kind": "summary", "version": 1, **self._as.summary_json(totals), "skipped": totals.skipped})

    def _line(self, document: dict[str, Any]) -> None:
        import json

        self._sink.write(json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":")) + "\n")


class _Whole:
    """A document that is written at the end, about the files that there is something to say about."""

    def __init__(self, sink: Sink, render: Callable[[ScanResult], str], *, list_allowed: bool) -> None:
        self._sink, self._render, self._list_allowed = sink, render, list_allowed
        self._files: list[Scanned] = []
        self._skipped: list[Skipped] = []
        self._calm = 0

    def file(self, scanned: Scanned) -> None:
        report = scanned.report
        if report.decision.outcome is Outcome.ALLOWED and not (report.findings and not self._list_allowed):
            if not self._list_allowed or self._calm >= _LISTED:
                return
            self._calm += 1
        self._files.append(scanned)

    def skipped(self, item: Skipped) -> None:
        if self._list_allowed and len(self._skipped) < _LISTED:
            self._skipped.append(item)

    def end(self, totals: Totals) -> None:
        self._sink.write(self._render(ScanResult(files=self._files, skipped=self._skipped, totals=totals)))


def _sarif(sink: Sink) -> ScanWriter:
    from safeload.cli.render.sarif_output import scan_sarif

    return _Whole(sink, scan_sarif, list_allowed=False)


def _markdown(sink: Sink) -> ScanWriter:
    from safeload.cli.render.markdown_output import scan_markdown

    return _Whole(sink, scan_markdown, list_allowed=True)


def _html(sink: Sink) -> ScanWriter:
    from safeload.cli.render.html_output import HtmlWriter

    return HtmlWriter(sink)


FORMATS: Final[dict[str, Callable[[Sink], ScanWriter]]] = {
    "text": _Text, "json": _Json, "jsonl": _JsonLines, "sarif": _sarif, "markdown": _markdown, "html": _html,
}  # fmt: skip


def writer(kind: str, sink: Sink) -> ScanWriter:
    """The writer for a format."""
    return FORMATS[kind](sink)


def _indented(document: Any, spaces: int) -> str:
    import json

    return json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False).replace("\n", "\n" + " " * spaces)

"""A scan as a page for people: one file, no network, light and dark, to sort and to filter.

What came out of files is data in it, never markup: rows are JSON in which no "<" stands, the script puts them in with
`textContent`, and the page's own policy lets nothing run or load but that script and style, named by their digests.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import html
import json
from importlib.resources import files
from typing import Any, Final

from safeload import __version__
from safeload.cli.render.json_output import path_text
from safeload.cli.scanning import Scanned, Totals
from safeload.cli.sink import Sink
from safeload.findings import Outcome, escape
from safeload.rules import RULES
from safeload.scanning import Skipped

__all__ = ["HtmlWriter"]

_FINDINGS: Final = 50
_STATIC: Final = 500  # files that are not allowed, listed for readers without scripts
_COLUMNS: Final = (
    ("state", "state"), ("path", "file"), ("format", "format"), ("size", "size"), ("findings", "findings"), ("digest", "sha256"),
)  # fmt: skip


class HtmlWriter:
    """Writes rows as they come; what is known at the end only stands behind them."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._rules: dict[str, str] = {}
        self._static: list[str] = []
        self._any = False
        self._script = _resource("page.js")
        sink.write(_head(_resource("page.css"), self._script))
        sink.write('<script type="application/json" id="rows">[')

    def file(self, scanned: Scanned) -> None:
        """One row, with its findings."""
        report = scanned.report
        findings = []
        for finding in report.findings[:_FINDINGS]:
            self._rules[finding.rule] = RULES[finding.rule].name
            place = f"byte {finding.where[1:]}" if finding.where.startswith("@") else finding.where.removeprefix("!")
            muted = scanned.muted.get(finding)
            findings.append([finding.rule, finding.level.value, escape(finding.message, 500), place, muted])
        outcome = report.decision.outcome
        why = "" if outcome is Outcome.ALLOWED else escape(report.error or "; ".join(report.decision.reasons[:5]), 1000)
        path = escape(path_text(report.path), 1000)
        more = max(0, len(report.findings) - _FINDINGS)
        digest = report.sha256 or ("unhashed" if report.unhashed else None)
        self._row([outcome.value, path, report.format, report.size, digest, findings, why, more])
        if outcome is not Outcome.ALLOWED and len(self._static) < _STATIC:
            first = findings[0][2] if findings else why
            self._static.append(f"<tr><td>{outcome.value}<td><code>{html.escape(path)}</code><td>{html.escape(str(first))}")

    def skipped(self, item: Skipped) -> None:
        """A row without a verdict."""
        self._row(["skipped", escape(path_text(item.path), 1000), "", None, None, [], escape(item.why, 300), 0])

    def end(self, totals: Totals) -> None:
        """Everything behind the rows."""
        counts = {**{outcome.value: number for outcome, number in totals.outcomes.items()}, "skipped": totals.skipped}
        self._sink.write("]</script>\n")
        self._sink.write(f'<script type="application/json" id="about">{_inert({"totals": counts, "rules": self._rules})}</script>\n')
        numbers = ", ".join(f"{number:,} {name}" for name, number in counts.items())
        rest = totals.outcomes[Outcome.REFUSED] + totals.outcomes[Outcome.ERROR] - len(self._static)
        more = f"<p>and {rest:,} more" if rest > 0 else ""
        rows = "\n".join(self._static)
        self._sink.write(f"<noscript><p>{numbers}. Without scripts, only what is not allowed is listed.\n<table>{rows}</table>{more}")
        self._sink.write("</noscript>\n")
        self._sink.write(f"<script>{self._script}</script>\n</body>\n</html>\n")

    def _row(self, row: list[Any]) -> None:
        self._sink.write((",\n" if self._any else "\n") + _inert(row))
        self._any = True


def _inert(document: Any) -> str:
    """JSON that no reader of HTML can find a tag or the end of a script in."""
    text = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _resource(name: str) -> str:
    return files("safeload.cli.render").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _head(style: str, script: str) -> str:
    # Sources by digest alone: whatever else came to stand in the page would not run and not load.
    own = f"style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'"
    policy = f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'"
    now = dt.datetime.now(tz=dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    heads = "".join(f'<th scope="col" data-key="{key}"><button type="button">{text}</button></th>' for key, text in _COLUMNS)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>safeload scan</title>
<style>{style}</style>
</head>
<body>
<header><h1>safeload scan</h1><button type="button" id="theme">light / dark</button></header>
<p class="facts">safeload {__version__}, {now}. Nothing in these files was run.</p>
<main id="live" hidden>
<div id="tiles" class="tiles" role="group" aria-label="show only"></div>
<div class="tools">
<input id="search" type="search" placeholder="filter by path, format, digest, rule or message" aria-label="filter">
<select id="format" aria-label="format"><option value="">every format</option></select>
<select id="rule" aria-label="rule"><option value="">every rule</option></select>
</div>
<table>
<caption id="caption" aria-live="polite"></caption>
<thead><tr>{heads}</tr></thead>
<tbody id="body"></tbody>
</table>
<div class="pager">
<button type="button" id="before">back</button><span id="page"></span><button type="button" id="after">next</button>
</div>
</main>
<footer>Each rule has a page: <code>safeload explain SL101</code></footer>
"""

"""`safeload trace`: which model files does a program load, and would they be allowed?"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from safeload.api import scan
from safeload.cli.options import force_option, format_option, output_option, policy_option, quiet_option
from safeload.cli.output import Line, as_json, check_output, count, emit, outcome_style, place, short_digest, summary
from safeload.cli.program import PROGRAM, ProgramCommand, interpreter, run_to_end
from safeload.errors import SafeloadError
from safeload.findings import Outcome, escape
from safeload.installing.children import environment
from safeload.installing.options import Options

__all__ = ["command"]

_STATUS = {"allowed": 0, "refused": 1, "error": 2}
_MOST_LINES = 1_000_000


@click.command(name="trace", cls=ProgramCommand, options_metavar="[OPTION]...")
@click.option("--lock", "write", is_flag=True, help="Pin the files that were allowed, as 'safeload lock' does.")
@click.option("--lockfile", type=click.Path(path_type=str), metavar="FILE", help="The lockfile that --lock writes.")
@click.option("--unknown", type=click.Choice(["refuse", "inert"]), help="What becomes of globals that are not modelled.")
@force_option("Overwrite the file that --output names.")
@format_option("text", "json")
@output_option
@quiet_option
@policy_option
@click.argument("program", nargs=-1, type=click.UNPROCESSED, metavar=PROGRAM)
def command(
    program: tuple[str, ...], write: bool, lockfile: str | None, unknown: str | None, force: bool, kind: str, output: Path | None,
    quiet: bool, policy: str | None,
) -> int:  # fmt: skip
    """Run a Python program as 'safeload run' does, and list every model file that it loads.

    Pins are not asked for: what is listed is what there is to pin, with the decision and the digest of the bytes that were
    loaded. A file that is refused is refused to the program, which may end there. Model files that the program gives to
    other loaders (safetensors, joblib, TorchScript) are listed too; nothing keeps the program from loading them. Its own
    output goes to stderr, unless --output takes the list.

    Exit status: 0 every load was allowed and the program ended with 0, 1 a load was refused, 2 a file could not be read, or
    the program failed by itself.
    """
    check_output(output, force=force)
    line = interpreter(program)
    options = replace(Options.of(policy, False, unknown, None), unpinned="allow")
    with tempfile.TemporaryDirectory(prefix="safeload-trace-") as folder:
        log = Path(folder, "loads")
        log.touch(mode=0o600)
        environ = environment(options, os.environ, trace=str(log))
        status = run_to_end(line, environ, **({} if output is not None else {"stdout": sys.stderr.fileno()}))
        files = _files(log, policy)
    emit(_json(program, status, files) if kind == "json" else _lines(files), output, force=force)
    worst = max((_STATUS[file["decision"]] for file in files), default=0)
    ended = "" if status == 0 else f"; the program ended with status {status}"
    summary([(f"traced: {count(len(files), 'file')}{ended}", "")], quiet=quiet)
    if write:
        worst = max(worst, _pin(files, lockfile, policy, quiet=quiet))
    return worst or (0 if status == 0 else 2)


def _files(log: Path, policy: str | None) -> list[dict[str, Any]]:
    """One entry for each file, decision and digest, in the order of the first load, with the number of loads.

    Files that another loader opened come last, judged as 'safeload scan' judges them now.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    opened: dict[str, None] = {}
    with log.open(encoding="ascii") as lines:
        for line in itertools.islice(lines, _MOST_LINES):
            load = json.loads(line)
            if "opened" in load:
                opened[load["opened"]] = None
                continue
            key = (load["path"] or load["name"], load["sha256"], load["decision"])
            found.setdefault(key, {**load, "loader": "torch.load", "loads": 0})["loads"] += 1
    loaded = {load["path"] for load in found.values()}
    others = (_scanned(path, policy) for path in opened if path not in loaded)
    return [*found.values(), *(other for other in others if other is not None)]


def _scanned(path: str, policy: str | None) -> dict[str, Any] | None:
    """A file that the program gave to another loader; None when it is no model, or is gone."""
    try:
        report = scan(path, policy=policy, lock=False, digest=True)
    except (OSError, SafeloadError):
        return None
    if report.format == "unknown":
        return None
    return {
        "path": path, "name": path, "format": report.format, "size": report.size, "sha256": report.sha256,
        "decision": report.decision.outcome.value, "message": "; ".join(report.decision.reasons) or None,
        "globals": list(report.unmodelled), "loader": "other", "loads": 1,
    }  # fmt: skip


def _lines(files: list[dict[str, Any]]) -> list[Line]:
    lines: list[Line] = []
    for file in files:
        digest = short_digest(file["sha256"]) if file["sha256"] else "not hashed"
        outcome = Outcome(file["decision"])
        name = place(file["path"]) if file["path"] else escape(file["name"], 1000)
        times = f"  {file['loads']} times" if file["loads"] > 1 else ""
        times += "  by another loader, not covered" if file["loader"] == "other" else ""
        head = [(name, "bold"), (f"  {file['format']}  ", ""), (f"{digest}  ", "dim")]
        lines.append([*head, (outcome.value, outcome_style(outcome)), (times, "")])
        if file["message"]:
            lines.append([(f"  {file['message'].splitlines()[0]}", "")])
    return lines


def _json(program: tuple[str, ...], status: int, files: list[dict[str, Any]]) -> str:
    number = {name: sum(file["decision"] == name for file in files) for name in _STATUS}
    return as_json({"version": 1, "program": list(program), "status": status, "files": files, "summary": number})


def _pin(files: list[dict[str, Any]], lockfile: str | None, policy: str | None, *, quiet: bool) -> int:
    """Pin what was allowed and lies in a file."""
    from safeload.cli.lock_command import STATUS
    from safeload.cli.render.text_output import lock_summary
    from safeload.pinning import lock

    paths = list(dict.fromkeys(file["path"] for file in files if file["decision"] == "allowed" and file["path"]))
    if not paths:
        summary([("locked: nothing, no file was allowed", "")], quiet=quiet)
        return 0
    result = lock(*paths, lock=lockfile, policy=policy)
    summary(lock_summary(result), quiet=quiet)
    return STATUS[result.outcome]

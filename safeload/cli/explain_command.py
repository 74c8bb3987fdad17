"""`safeload explain`: what a rule means."""

from __future__ import annotations

import difflib
import os
import sys

import click

from safeload.cli.output import emit, on_terminal, outcome_style
from safeload.cli.rule_pages import page
from safeload.errors import UsageError
from safeload.findings import escape
from safeload.rules import RULES, Rule

__all__ = ["command"]


@click.command(name="explain")
@click.argument("rule", required=False)
def command(rule: str | None) -> int:
    """Explain a rule: what it means, why it matters, what to do. Without RULE, list all rules.

    RULE is an id such as SL101, or a name such as dangerous-call.
    """
    if rule is None:
        emit([[(f"{one.id}  ", "bold"), (f"{one.level.value:<8}", outcome_style(one.level)), (one.summary, "")] for one in RULES.values()])
        return 0
    text = page(_find(rule).id)
    if on_terminal(sys.stdout) and not os.environ.get("NO_COLOR"):
        from rich.console import Console
        from rich.markdown import Markdown

        Console(file=sys.stdout, width=min(100, Console().width)).print(Markdown(text))
    else:
        emit(text)
    return 0


def _find(text: str) -> Rule:
    """The rule of an id or a name.

    Raises:
        UsageError: there is none; the hint has those that look alike.
    """
    wanted = text.strip().upper()
    by_name = {one.name.upper(): one for one in RULES.values()}
    found = RULES.get(wanted) or by_name.get(wanted)
    if found is not None:
        return found
    ids = [*RULES, *by_name]
    alike = [one for one in ids if wanted and one.startswith(wanted)][:10] or difflib.get_close_matches(wanted[:50], ids, n=3)
    names = [RULES[one].id if one in RULES else f"{by_name[one].id} ({by_name[one].name})" for one in alike]
    hint = f"did you mean {', '.join(names)}?" if names else "'safeload explain' lists all rules"
    raise UsageError(f"there is no rule '{escape(text, 50)}'", hint=hint)

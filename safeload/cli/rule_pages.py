"""The page of each rule, as it lies in the package."""

from __future__ import annotations

import importlib.resources

from safeload.rules import RULES

__all__ = ["page"]


def page(rule: str) -> str:
    """Return a rule's page as Markdown; of a rule without one, what the table of rules says.

    Args:
        rule: An id of `RULES`.
    """
    try:
        return importlib.resources.files("safeload").joinpath("rule_pages", f"{rule}.md").read_text(encoding="utf-8")
    except OSError:
        known = RULES[rule]
        return f"# {known.id}: {known.name}\n\nLevel: {known.level.value}\n\n{known.summary[:1].upper()}{known.summary[1:]}.\n"

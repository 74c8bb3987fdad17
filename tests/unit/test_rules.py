"""Every rule has a page, and every page says what its rule says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import safeload.rules
from safeload.findings import Level
from safeload.rules import RULES, Rule

PACKAGE = Path(safeload.rules.__file__).parent
PAGES = PACKAGE / "rule_pages"
SECTIONS = ["What it means", "Why it matters", "Example", "What to do"]


def page(rule: str) -> str:
    return (PAGES / f"{rule}.md").read_text("utf-8")


def test_ids_are_the_keys_and_names_are_unique() -> None:
    assert [key for key, rule in RULES.items() if key != rule.id] == []
    assert len({rule.name for rule in RULES.values()}) == len(RULES)


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_the_page_says_what_the_rule_says(rule: Rule) -> None:
    """Title, level and summary come from the rule; a page that was copied and not rewritten shows here."""
    text = page(rule.id)
    assert text.splitlines()[0] == f"# {rule.id}: {rule.name}"
    assert text.splitlines()[2] == f"Level: {rule.level}. {rule.summary[0].upper()}{rule.summary[1:]}."
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert 15 <= len(text.splitlines()) <= 40


@pytest.mark.parametrize("rule", RULES)
def test_the_example_is_a_line_that_the_tool_could_print(rule: str) -> None:
    """The line has the rule's id, one of the levels, and a place."""
    found = re.search(r"^## Example\n\n```text\n(.*)\n```$", page(rule), re.MULTILINE | re.DOTALL)
    assert found is not None
    level, shown, rest = found[1].split(maxsplit=2)
    assert level in list(Level)
    assert level == RULES[rule].level
    assert shown == rule
    assert "  at " in rest


def test_there_is_no_page_without_a_rule() -> None:
    """A retired rule keeps its id, and its page goes."""
    assert sorted(path.stem for path in PAGES.glob("SL*.md")) == sorted(RULES)
    assert sorted(path.name for path in PAGES.iterdir() if not path.name.startswith("SL")) == ["README.md"]


def test_the_index_lists_every_rule_as_it_is() -> None:
    """The table is written by hand, so that it reads well in a repository browser, and held to the rules here."""
    rows = re.findall(r"^\| \[.*$", (PAGES / "README.md").read_text("utf-8"), re.MULTILINE)
    assert rows == [f"| [{rule.id}]({rule.id}.md) | {rule.name} | {rule.level} | {rule.summary} |" for _, rule in sorted(RULES.items())]


def test_the_docs_lead_to_the_same_pages() -> None:
    """One copy, in the package, because `safeload explain` has to print it without a network."""
    docs = PACKAGE.parent / "docs" / "rules"
    if not docs.parent.is_dir():
        pytest.skip("an installed package has no docs")
    assert docs.resolve() == PAGES.resolve()


def test_the_code_names_no_rule_that_is_not_there() -> None:
    """A finding with an unknown id could not be explained."""
    used = {found for path in PACKAGE.rglob("*.py") for found in re.findall(r'"(SL\d{3})"', path.read_text("utf-8"))}
    assert sorted(used - set(RULES)) == []


def test_pages_are_plain_text() -> None:
    """They are printed on terminals as they are."""
    for rule in RULES:
        assert all(char.isprintable() or char == "\n" for char in page(rule))
        assert max(len(line) for line in page(rule).splitlines()) <= 140

"""What every container reader hands on: members, findings, and what a member name may look like."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from safeload.findings import Finding, Level, escape
from safeload.lean_dataclass import dataclass, field
from safeload.program import Region
from safeload.rules import RULES

__all__ = ["Archive", "Member", "Notes", "check_duplicates", "check_name", "name_key", "qualified"]


class Member(NamedTuple):
    """One member of a container. A tuple, because some files have a hundred thousand.

    Attributes:
        name: As the container spells it, decoded; hostile until escaped.
        region: Where its bytes lie; `region.nbytes` counts them unpacked.
        header_offset: First byte of its header in the source.
        method: ZIP's number: 0 stored, 8 deflated, others are not read. 0 for tar.
        flags: ZIP's general purpose bits. 0 for tar.
        crc32: As recorded, whether or not it is meant; what to check against is `region.crc32`.
        is_dir: It stands for a directory.
        problem: Why its bytes may not be read (they overlap, lie outside, would burst), or None.
    """

    name: str
    region: Region
    header_offset: int
    method: int
    flags: int
    crc32: int
    is_dir: bool
    problem: str | None = None


@dataclass(slots=True)
class Archive:
    """All that a container reader found.

    Attributes:
        members: In the order of the directory (ZIP) or of the file (tar).
        findings: What is wrong or worth knowing; a container that its usual writers made has none above level note.
        error: Why the structure could not be read to its end, or None. Members found until then are kept.
        comment: The archive comment of a ZIP file.
        by_name: Exact name → member; of duplicates the first, as torch takes it.
    """

    members: tuple[Member, ...] = ()
    findings: list[Finding] = field(default_factory=list)
    error: str | None = None
    comment: bytes = b""
    by_name: dict[str, Member] = field(default_factory=dict)


def qualified(outer: str | None, name: str) -> str:
    """Name a member through every container around it, joined by "!"."""
    return name if outer is None else f"{outer}!{name}"


# A hostile archive of a million members must not make a million findings of the same kind.
_KEPT: Final = 100


class Notes:
    """Collects findings: at most `_KEPT` of each rule and level, and the number of the rest."""

    def __init__(self, outer: str | None) -> None:
        self.outer = outer
        self._found: list[Finding] = []
        self._counts: Counter[tuple[str, Level]] = Counter()

    def add(self, rule: str, message: str, *, name: str | None = None, offset: int | None = None, level: Level | None = None) -> None:
        """Add one finding.

        Args:
            rule: A key of `RULES`; its level is the default.
            message: Lower case, hostile text escaped.
            name: The member concerned; None for the archive itself.
            offset: In bytes from the start of the archive; dropped where `name` is given: a finding's offset counts within its member.
            level: Instead of the rule's usual one.
        """
        level = RULES[rule].level if level is None else level
        self._counts[rule, level] += 1
        if self._counts[rule, level] <= _KEPT:
            member = self.outer if name is None else qualified(self.outer, name)
            self._found.append(Finding(rule=rule, level=level, message=message, member=member, offset=None if name is not None else offset))

    def done(self) -> list[Finding]:
        """Return the findings in order of appearance, then what was left out."""
        more = [
            Finding(rule=rule, level=level, message=f"and {count - _KEPT} more of this kind", member=self.outer)
            for (rule, level), count in self._counts.items()
            if count > _KEPT
        ]
        return self._found + more


# Printable ASCII but "/", ":" and backslash, in components that are neither "." nor "..", at most one "/" at the end.
_ORDINARY: Final = re.compile(r"(?:(?!\.\.?(?:/|\Z))[ -.0-9;-\[\]-~]+(?:/|\Z))+")
_DRIVE: Final = re.compile(r"[A-Za-z]:")


def check_name(notes: Notes, rule: str, name: str, *, dotted: Level | None = Level.NOTE) -> str:
    """Add a finding for everything about a member name that extracting it, or looking it up, could trip over.

    Args:
        notes: Takes the findings.
        rule: The container's rule for unsafe names.
        name: Decoded.
        dotted: The level of a leading "./", which tar writes as a matter of course (None: no finding).

    Returns:
        Its `name_key`.
    """
    if _ORDINARY.fullmatch(name):
        return name.lower().removesuffix("/")
    shown = f"member name '{escape(name)}'" if name else "a member"
    parts = name.replace("\\", "/").split("/")
    if parts and not parts[-1]:
        parts.pop()
    for bad, what in (
        (not name, "has no name"),
        (any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in name), "holds control characters"),
        ("\\" in name, "holds a backslash, which some readers take for a slash"),
        (name[:1] in ("/", "\\"), "is absolute"),
        (_DRIVE.match(name) is not None, "begins with a drive letter"),
        (".." in parts, "climbs out with '..'"),
    ):
        if bad:
            notes.add(rule, f"{shown} {what}", name=name)
    if any(part in ("", ".") for part in parts[1:]):
        notes.add(rule, f"{shown} has empty or '.' components, which some readers drop", name=name, level=Level.WARNING)
    elif parts[:1] == ["."] and dotted is not None:
        notes.add(rule, f"{shown} begins with './'", name=name, level=dotted)
    if not name.isascii() and _invisible(name):
        notes.add(rule, f"{shown} holds characters that cannot be seen or that turn the reading direction", name=name, level=Level.WARNING)
    return name_key(name)


def _invisible(name: str) -> bool:
    """Whether a character beyond the controls is written as an escape."""
    return any(ord(char) >= 0xA0 and escape(char) != char for char in name)


def name_key(name: str) -> str:
    """Return what two names share when some reader or file system takes them for the same.

    Case, Unicode composition, slash direction, empty and "." components, and a slash at the end make no difference.
    """
    text = name.lower() if name.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    if "\\" in text:
        text = text.replace("\\", "/")
    if "//" in text or "./" in text or text[-1:] in ("/", ".") or text[:1] == "/":
        text = "/".join(part for part in text.split("/") if part not in ("", "."))
    return text


def check_duplicates(notes: Notes, members: Sequence[Member], keys: Sequence[str]) -> dict[str, Member]:
    """Report members that some reader takes for one another (their keys are equal), and return the first of each exact name."""
    by_name: dict[str, Member] = {}
    seen: dict[str, Member] = {}
    for member, key in zip(members, keys, strict=True):
        by_name.setdefault(member.name, member)
        if key not in seen:
            seen[key] = member
        else:
            other = seen[key].name
            # The same directory twice is what appending leaves behind; it has no bytes to disagree on.
            level = Level.NOTE if member.is_dir and seen[key].is_dir and other == member.name else None
            alike = "the same" if other == member.name else f"'{escape(other)}' but for case, form or slashes"
            notes.add("SL202", f"two members: one is named '{escape(member.name)}', an earlier one {alike}", name=member.name, level=level)
    return by_name

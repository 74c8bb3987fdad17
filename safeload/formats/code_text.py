"""Texts in a model's metadata that read like source code or a shell command.

Names, notes and parameters of a model are data: the programs that the format is for run none of them. No writer puts code
there either, and some program around them may hand such a text to an interpreter. So it is worth a warning, and is no error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from safeload.findings import escape
from safeload.formats.container import Notes

__all__ = ["note_code", "reads_like_code"]

_SHOWN: Final = 60
_KINDS: Final = (
    ("starts a process", r"\b(?:os|posix|nt)\s*\.\s*(?:system|popen|exec\w*|spawn\w*|startfile)\s*\("),
    ("starts a process", r"\b(?:subprocess|pty|commands)\s*\.\s*\w+\s*\(|\bProcessBuilder\b|\bgetRuntime\b"),
    ("runs source code", r"\b(?:eval|exec|compile|execfile|__import__)\s*\("),
    ("imports what runs code", r"\b(?:import|from)\s+(?:os|subprocess|socket|ctypes|pty|shutil|importlib|marshal|pickle)\b"),
    ("deserialises", r"\b(?:pickle|cPickle|dill|cloudpickle|marshal|joblib)\s*\.\s*loads?\s*\("),
    ("reaches Python's machinery", r"__(?:reduce|reduce_ex|globals|builtins|subclasses|mro|getattribute|import|code|loader)__"),
    ("is a shell command", r"(?:^|[\s;|&'\"`(/])(?:ba|z|k|da|a)?sh\s+-\w*c\b|/dev/(?:tcp|udp)/|\bnc(?:at)?\s+-\w*e\b"),
    ("is a shell command", r"\b(?:curl|wget)\s[^\n]{0,200}?(?:https?|ftp)://|\bpowershell(?:\.exe)?\s+[-/]|\bcmd(?:\.exe)?\s+/c\b"),
    ("is a script", r"\A#!\s?/|<script\b|\bjavascript:"),
    ("is looked up by name", r"\$\{\s*(?:jndi|script|url|dns)\s*:"),
)  # fmt: skip
_ANY: Final = re.compile("|".join(f"(?P<k{index}>{pattern})" for index, (_, pattern) in enumerate(_KINDS)), re.IGNORECASE)


def reads_like_code(text: str) -> str | None:
    """What a text would do if somebody ran it, with the place that says so; None for an ordinary text."""
    found = _ANY.search(text)
    if found is None:
        return None
    what = _KINDS[int((found.lastgroup or "k0")[1:])][0]
    start = max(0, found.start() - 10)
    return f"{what}: '{escape(text[start : start + _SHOWN], _SHOWN)}'"


def note_code(notes: Notes, texts: Iterable[tuple[str, str]], name: str | None = None) -> None:
    """Add a finding (SL852) for every text that reads like code.

    Args:
        notes: Takes the findings.
        texts: (Where it stands, the text), as `json_tree.texts_in` yields them.
        name: The container member that holds them.
    """
    for path, text in texts:
        what = reads_like_code(text)
        if what is not None:
            where = f"the text of {escape(path, 80)}" if path else "a text"
            notes.add("SL852", f"{where} {what}", name=name)

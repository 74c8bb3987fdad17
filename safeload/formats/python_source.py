"""Python source that comes with a model: which of the names that it calls are known to start processes or run code.

The text is cut into tokens and never compiled: no parser's stack to exhaust. Names are followed through the imports of the file, and
no farther. Code that calls nothing dangerous by name is not thereby harmless, which is why whoever finds it says so anyway.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from typing import Final

from safeload.findings import escape
from safeload.formats.code_text import reads_like_code
from safeload.walk.names import know

__all__ = ["LARGEST", "dangerous_calls"]

LARGEST: Final = 256 << 10
_MOST: Final = 50
_LONGEST: Final = 21  # tokens of a name with dots
# What is dangerous for a pickle to call is mostly ordinary in source, where its arguments can be seen (`dataclass`, `parse_args`): here
# only what runs something else counts.
_RUNS: Final = re.compile(
    r"(?:(?:builtins|__builtins__)\.)?(?:eval|exec|execfile|__import__)\Z"
    r"|(?:os|posix|nt)\.(?:system|popen\d?|exec[lv]p?e?|spawn[lv]p?e?|posix_spawnp?|startfile|fork(?:pty)?|dup2)\Z"
    r"|(?:subprocess|commands|popen2)\.(?:run|Popen\d?|call|check_call|check_output|get(?:status)?output|popen\d)\Z"
    r"|asyncio\.(?:subprocess\.)?create_subprocess_(?:exec|shell)\Z|pty\.(?:spawn|fork)\Z|_posixsubprocess\.fork_exec\Z"
    r"|ctypes\.(?:CDLL|PyDLL|WinDLL|OleDLL|(?:cdll|pydll|windll|oledll)\.LoadLibrary)\Z|_ctypes\.dlopen\Z|cffi\.FFI\Z"
    r"|(?:runpy\.run_\w+|imp\.load_\w+|code\.(?:interact|Interactive\w+)|marshal\.loads?|types\.(?:CodeType|FunctionType))\Z"
    r"|pip\.(?:main|_internal\.(?:cli\.main\.)?main)\Z"
    r"|torch\.utils\.cpp_extension\.load(?:_inline)?\Z|torch\.(?:ops|classes)\.load_library\Z"
)
_HIDDEN: Final = re.compile(
    r"\b(?:import_module|reload)\(\s*['\"](?:os|posix|nt|subprocess|pty|ctypes|builtins|commands)['\"]"
    r"|\bgetattr\(\s*(?:os|posix|subprocess|pty|ctypes|builtins|__builtins__)\s*,"
    r"|\b__builtins__\s*\[|\bsys\.modules\s*\[\s*['\"](?:os|posix|nt|subprocess|pty|ctypes|builtins)['\"]"
)
_SKIPPED: Final = frozenset((tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING))


def dangerous_calls(text: str) -> list[tuple[int, str]]:
    """Return (line, what is called and what it does) of every call that starts a process, runs code or loads native code.

    Args:
        text: The source; a text that is no Python is searched for words instead.
    """
    found: dict[str, tuple[int, str]] = {}
    try:
        for line, dotted in _calls(text):
            module, _, name = dotted.rpartition(".")
            if _RUNS.match(dotted) and len(found) < _MOST:
                known = know(module or "builtins", name)
                found.setdefault(dotted, (line, f"calls {known.name} ({known.reason})"))
        hidden = _HIDDEN.search(text)
        if hidden is not None:
            found.setdefault("", (text.count("\n", 0, hidden.start()) + 1, f"looks up what runs code: '{escape(hidden[0], 60)}'"))
    except (tokenize.TokenError, SyntaxError, RecursionError, ValueError):
        what = reads_like_code(text)
        if what is not None:
            found.setdefault("", (1, what))
    return list(found.values())


def _calls(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line, full name) of everything that is called by a name with dots, and of decorators; imports are applied."""
    names: dict[str, str] = {}
    line: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in _SKIPPED:
            continue
        if token.type in (tokenize.NEWLINE, tokenize.ENDMARKER) or (token.string == ";" and token.type == tokenize.OP):
            if line:
                yield from _line(line, names)
            line = []
        else:
            line.append(token)


def _line(line: list[tokenize.TokenInfo], names: dict[str, str]) -> Iterator[tuple[int, str]]:
    """One logical line. An import behind a colon ("if x: import os") counts, too."""
    words = [token.string for token in line]
    for at, word in enumerate(words):
        if word in ("import", "from") and (at == 0 or words[at - 1] in (":", "else")):
            _import(words[at:], names)
            return
    at = 0
    while at < len(line):
        if line[at].type != tokenize.NAME or (at and words[at - 1] == "."):
            at += 1
            continue
        end = at + 1
        while end + 1 < len(line) and end - at < _LONGEST and words[end] == "." and line[end + 1].type == tokenize.NAME:
            end += 2
        called = end < len(line) and words[end] == "("
        decorates = at > 0 and words[at - 1] == "@"
        if (called or decorates) and not (at and words[at - 1] in ("def", "class")):
            first, rest = words[at], words[at + 1 : end]
            yield line[at].start[0], names.get(first, first) + "".join(rest)
        elif words[at] not in names and end < len(line) and words[end] == "=" and end == at + 1:
            _assigned(words[at], line, end + 1, names)
        at = end


def _assigned(name: str, line: list[tokenize.TokenInfo], at: int, names: dict[str, str]) -> None:
    """`run = os.system`: the name stands for what it was given, when that is a name with dots and nothing more."""
    words = [token.string for token in line[at : at + _LONGEST]]
    if words and all(word == "." if index % 2 else word.isidentifier() for index, word in enumerate(words)) and len(words) % 2:
        names[name] = names.get(words[0], words[0]) + "".join(words[1:])


def _import(words: list[str], names: dict[str, str]) -> None:
    """Note what an import statement binds."""
    package = ""
    if words[0] == "from":
        if "import" not in words:
            return
        at = words.index("import")
        package, words = "".join(words[1:at]).lstrip("."), words[at:]
    items: list[list[str]] = [[]]
    for word in words[1:]:
        if word == ",":
            items.append([])
        elif word not in ("(", ")"):
            items[-1].append(word)
    for item in items:
        alias = item[item.index("as") + 1 :] if "as" in item else []
        dotted = "".join(item[: item.index("as")] if "as" in item else item)
        full = f"{package}.{dotted}" if package else dotted
        if alias:
            names[alias[0]] = full
        elif package:
            names[dotted] = full
        else:
            top = dotted.partition(".")[0]
            names.setdefault(escape(top, 80), top)

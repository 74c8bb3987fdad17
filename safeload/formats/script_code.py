"""What the text of a TorchScript archive says of its classes: which attributes are parameters, and which are buffers.

The code is read as text, line by line, and never compiled. torch writes each module class as `class Name(Module):` with a line
`__parameters__ = ["weight", "bias", ]` and one of `__buffers__` right below. Source: torch/csrc/jit/serialization/python_print.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from safeload.program import ScriptClass

__all__ = ["script_classes"]

_CLASS: Final = re.compile(r"class (\w+)\(Module\):\Z")
_NAMES: Final = re.compile(r"  (__parameters__|__buffers__) = \[([^\]]*)\]\Z")
_NAME: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')


def script_classes(member: str, text: str) -> Iterator[tuple[str, ScriptClass]]:
    """Yield the module classes of one file of code, each with its full name.

    Args:
        member: Its name below the top directory, "code/__torch__/a/b.py".
        text: Its text.
    """
    module = member.removeprefix("code/").removesuffix(".py").replace("/", ".")
    name: str | None = None
    found: dict[str, tuple[str, ...]] = {}
    for line in text.split("\n"):
        if line.startswith("class "):
            if name is not None:
                yield _made(module, name, found)
            match = _CLASS.match(line)
            name, found = (match[1] if match else None), {}
        elif name is not None and line.startswith("  __"):
            names = _NAMES.match(line)
            if names:
                found.setdefault(names[1], tuple(_NAME.findall(names[2])))
    if name is not None:
        yield _made(module, name, found)


def _made(module: str, name: str, found: dict[str, tuple[str, ...]]) -> tuple[str, ScriptClass]:
    return f"{module}.{name}", ScriptClass(found.get("__parameters__", ()), found.get("__buffers__", ()))

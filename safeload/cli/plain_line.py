"""A scan's command line that is written plainly, read without click: it takes longer to import than a small file to scan.

Plain is: options in full or as `-q`, each value as a word of its own that does not begin with a dash, nothing abbreviated. Everything
else, help and mistakes among it, is click's; the tests hold the two readings together.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from safeload.cli.scan_run import ScanOptions

__all__ = ["plain_scan"]

_FLAGS: Final = {"--quiet": "quiet", "-q": "quiet", "--digest": "digest", "--strict": "strict"}
_VALUES: Final = {"--format": "kind", "--policy": "policy", "--lock": "lock", "--journal": "journal"}
_KINDS: Final = frozenset({"text", "json", "jsonl", "sarif", "markdown", "html"})
_COMPLETION: Final = "_SAFELOAD_COMPLETE"


def plain_scan(arguments: Sequence[str]) -> ScanOptions | None:
    """Return what a plain command line says, or None for any other.

    Args:
        arguments: Without the program's name.
    """
    if not arguments or arguments[0] != "scan" or _COMPLETION in os.environ:
        return None
    found: dict[str, Any] = {}
    paths: list[str] = []
    words = iter(arguments[1:])
    for word in words:
        if word in _FLAGS:
            found[_FLAGS[word]] = True
        elif word in _VALUES:
            value = next(words, "")
            if not value or value.startswith("-") or (word == "--format" and value not in _KINDS):
                return None
            found[_VALUES[word]] = value
        elif not word or word.startswith("-"):
            return None
        else:
            paths.append(word)
    if not paths:
        return None
    from safeload.cli.scan_run import ScanOptions

    return ScanOptions(paths=tuple(paths), **found)

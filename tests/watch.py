"""See whether anything runs: an audit hook over imports, code, processes, sockets and writing.

Audit hooks cannot be taken away again, so there is one, added by the first use, and it listens only inside `nothing_runs`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from safeload import lean_dataclass

__all__ = ["nothing_runs"]

RUNNING: Final = (
    "import", "exec", "compile", "code.__new__", "function.__new__", "marshal.", "pickle.find_class", "ctypes.dlopen",
    "socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn",
)  # fmt: skip
CHANGING: Final = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "shutil.",
)
WRITE_FLAGS: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


# It writes the `__init__` of a class of safeload's, of names that stand in safeload's own source.
_OWN_INIT: Final = getattr(lean_dataclass, "_compiled_init").__code__  # noqa: B009 - types do not know it


class _Hook:
    """What was seen while somebody listened, in any thread."""

    added = False
    listening = False
    writing_allowed = False
    seen: list[str] = []  # noqa: RUF012 - one hook in the process, one list

    @classmethod
    def note(cls, event: str, arguments: tuple[Any, ...]) -> None:
        if not cls.listening:
            return
        if event == "open":
            mode, flags = arguments[1], arguments[2]
            writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & WRITE_FLAGS)
            if writes and not cls.writing_allowed:
                cls.seen.append(f"open {arguments[0]!r:.200} for writing")
        elif event in ("compile", "exec") and sys._getframe(1).f_code is _OWN_INIT:
            return  # the first instance of one of safeload's own classes
        elif event.startswith(RUNNING) or (event.startswith(CHANGING) and not cls.writing_allowed):
            cls.seen.append(f"{event} {arguments!r:.200}")


@contextmanager
def nothing_runs(*, writing: bool = False) -> Iterator[None]:
    """Fail when, inside, anything is imported, compiled, executed, started or connected.

    Whatever is imported late for good reasons must have been imported before.

    Args:
        writing: Whether files may be written; without it, opening one for writing fails too.

    Raises:
        AssertionError: With every event that was seen.
    """
    if not _Hook.added:
        sys.addaudithook(_Hook.note)
        _Hook.added = True
    _Hook.seen, _Hook.writing_allowed = [], writing
    _Hook.listening = True
    try:
        yield
    finally:
        _Hook.listening = False
    assert not _Hook.seen, _Hook.seen

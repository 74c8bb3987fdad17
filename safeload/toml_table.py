"""Read TOML that somebody else wrote: every value checked, every complaint with its key path, no key overlooked.

Lockfile and policy share this page. A `Table` knows where it stands (`model[3].file[0]`), hands out one checked value
per call, and `close()` refuses every key that nobody asked for, with the nearest one that is known.
"""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

from safeload.errors import SafeloadError
from safeload.findings import escape
from safeload.source import Source

__all__ = ["Table", "kind_of", "parse_toml", "read_bytes", "toml_string"]

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_DOTTED: Final = re.compile(  # without backing up, and begun at the start of a word: linear in the text
    rb"""(?<![A-Za-z0-9_-])(?:(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){64}"""
)
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_KINDS: Final = {
    bool: "a boolean", int: "an integer", float: "a float", str: "a string", list: "an array", dict: "a table",
    dt.date: "a date", dt.datetime: "a date with time", dt.time: "a time",
}  # fmt: skip


def read_bytes(path: str, error: type[SafeloadError], *, max_bytes: int) -> bytes:
    """Read one small file, opened once and bounded.

    Args:
        path: The file.
        error: What to raise when it is too long.
        max_bytes: Longer files are refused unread.

    Raises:
        FileNotFoundError, IsADirectoryError, PermissionError: as `open` does.
        UnsupportedError: it is a pipe or a device.
        error: it is too long.
    """
    with Source.open(path) as source:
        if source.size > max_bytes:
            raise error(f"the file has {source.size} bytes, and at most {max_bytes} are read", where=source.name)
        return source.read(0, source.size)


def parse_toml(data: bytes, where: str, error: type[SafeloadError]) -> dict[str, object]:
    """Parse TOML bytes; `where` names them in the error.

    Raises:
        error: they are not UTF-8, or not TOML; the message has line and column.
    """
    if (found := _DOTTED.search(data)) is not None:
        # The parser writes every beginning of such a key down: one of 100 kB takes it gigabytes.
        line = 1 + data[: found.start()].count(10)
        raise error(f"a key of more than 64 parts (at line {line})", where=where)
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as bad:
        raise error(f"not UTF-8 at byte {bad.start}", where=where) from None
    except RecursionError:
        raise error("values are nested too deeply", where=where) from None
    except ValueError as bad:  # TOMLDecodeError is one; a number of thousands of digits raises a plain one
        raise error(f"not valid TOML: {escape(str(bad))}", where=where) from None


def toml_string(text: str) -> str:
    """Write a basic string; everything that does not print (bidi marks too) as an escape, so that a diff shows it."""
    out = ['"']
    for char in text:
        code = ord(char)
        if char in '"\\':
            out.append("\\" + char)
        elif char.isprintable() or "\ud800" <= char <= "\udfff":  # no escape can stand for half a pair: leave it to UTF-8 to refuse
            out.append(char)
        else:
            out.append(f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}")
    return "".join([*out, '"'])


def kind_of(value: object) -> str:
    """Name a TOML value's type as a person would."""
    return _KINDS.get(type(value), type(value).__name__)


def _joined(path: str, key: str) -> str:
    """Append one key to a path, quoted where TOML would want it."""
    part = key if _BARE.fullmatch(key) else f'"{escape(key, 80)}"'
    return f"{path}.{part}" if path else part


class Table:
    """One table of a document, with the place where it stands.

    Attributes:
        path: Its key path, "" for the document itself.
        where: The file, for messages.
        strict: Whether `close` refuses unknown keys.
    """

    __slots__ = ("_asked", "_data", "_error", "path", "strict", "where")

    def __init__(
        self, data: Mapping[str, object], error: type[SafeloadError], *, where: str = "", path: str = "", strict: bool = True
    ) -> None:
        self._data = data
        self._error = error
        self._asked: set[str] = set()
        self.where = where
        self.path = path
        self.strict = strict

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def at(self, key: str) -> str:
        """Return the path of a key of this table."""
        return _joined(self.path, key)

    def fail(self, key: str, problem: str, hint: str = "") -> SafeloadError:
        """Make the error for `key`; raise what it returns."""
        return self._error(f"{self.at(key) if key else self.path or 'the document'}: {problem}", where=self.where, hint=hint)

    def fail_item(self, key: str, index: int, problem: str, hint: str = "") -> SafeloadError:
        """Make the error for one item of the array under `key`; raise what it returns."""
        return self._error(f"{self.at(key)}[{index}]: {problem}", where=self.where, hint=hint)

    # ---- values

    def _get(self, key: str, kind: type, *, needed: bool) -> object:
        self._asked.add(key)
        if key not in self._data:
            if needed:
                raise self.fail(key, "missing")
            return None
        value = self._data[key]
        # type(), not isinstance: True is an int, and a datetime is a date.
        if type(value) is not kind:
            raise self.fail(key, f"{_KINDS[kind]} is needed, not {kind_of(value)}")
        return value

    def text(self, key: str) -> str:
        """Return a string that is not empty."""
        return self._printable(key, cast("str", self._get(key, str, needed=True)))

    def maybe_text(self, key: str) -> str | None:
        """Return a string, or None when the key is not there."""
        value = cast("str | None", self._get(key, str, needed=False))
        return None if value is None else self._printable(key, value)

    def _printable(self, key: str, value: str) -> str:
        if not value:
            raise self.fail(key, "empty")
        if _CONTROL.search(value):
            raise self.fail(key, f"control characters in '{escape(value, 80)}'")
        return value

    def choice(self, key: str, known: Sequence[str]) -> str:
        """Return one of the `known` words."""
        return self._known(key, self.text(key), known)

    def maybe_choice(self, key: str, known: Sequence[str]) -> str | None:
        """Return one of the `known` words, or None when the key is not there."""
        value = self.maybe_text(key)
        return None if value is None else self._known(key, value, known)

    def _known(self, key: str, value: str, known: Sequence[str]) -> str:
        if value not in known:
            raise self.fail(key, f"'{escape(value, 80)}' is not one of {', '.join(known)}", _nearest(value, known))
        return value

    def sha256(self, key: str) -> str:
        """Return 64 lower-case hex digits."""
        value = self.text(key)
        if not _SHA256.fullmatch(value):
            raise self.fail(key, f"64 lower-case hex digits are needed, not {len(value)} characters '{escape(value, 80)}'")
        return value

    def maybe_sha256(self, key: str) -> str | None:
        """Return 64 lower-case hex digits, or None when the key is not there."""
        return self.sha256(key) if self.has(key) else None

    def has(self, key: str) -> bool:
        """Whether an optional key is there; from now on it is known."""
        self._asked.add(key)
        return key in self._data

    def size(self, key: str) -> int:
        """Return a number of bytes: an integer from 0 to 2**63 - 1."""
        value = cast("int", self._get(key, int, needed=True))
        if not 0 <= value < 1 << 63:
            raise self.fail(key, f"a size in bytes is needed, not {value if abs(value) < 1 << 64 else 'a number of that length'}")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a boolean."""
        value = cast("bool | None", self._get(key, bool, needed=False))
        return default if value is None else value

    def date(self, key: str) -> dt.date:
        """Return a local date."""
        return cast("dt.date", self._get(key, dt.date, needed=True))

    def maybe_texts(self, key: str) -> tuple[str, ...] | None:
        """Return an array of strings without repetition, or None when the key is not there."""
        values = cast("list[object] | None", self._get(key, list, needed=False))
        if values is None:
            return None
        seen: dict[str, None] = {}
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise self.fail_item(key, index, f"a string is needed, not {kind_of(value)}")
            if not value:
                raise self.fail_item(key, index, "empty")
            if value in seen:
                raise self.fail_item(key, index, f"'{escape(value, 80)}' stands there twice")
            seen[value] = None
        return tuple(seen)

    # ---- tables

    def table(self, key: str) -> Table:
        """Return the table under `key`."""
        return self._child(cast("dict[str, object]", self._get(key, dict, needed=True)), self.at(key))

    def maybe_table(self, key: str) -> Table | None:
        """Return the table under `key`, or None when it is not there."""
        return self.table(key) if self.has(key) else None

    def tables(self, key: str) -> Iterator[Table]:
        """Yield each table of the array under `key`; none when it is not there."""
        values = cast("list[object] | None", self._get(key, list, needed=False))
        for index, value in enumerate(values or ()):
            if type(value) is not dict:
                raise self.fail_item(key, index, f"a table is needed, not {kind_of(value)}")
            yield self._child(cast("dict[str, object]", value), f"{self.at(key)}[{index}]")

    def named_tables(self, key: str) -> Iterator[tuple[str, Table]]:
        """Yield name and table of each `[key.name]`; none when there are none."""
        parent = self.maybe_table(key)
        if parent is not None:
            for name in parent:
                yield name, parent.table(name)

    def _child(self, data: dict[str, object], path: str) -> Table:
        return Table(data, self._error, where=self.where, path=path, strict=self.strict)

    def close(self) -> None:
        """Refuse every key that nobody asked for, unless the document is of a version that may know more."""
        unknown = [key for key in self._data if key not in self._asked]
        if unknown and self.strict:
            raise self.fail(unknown[0], "unknown key", _nearest(unknown[0], sorted(self._asked)))


def _nearest(word: str, known: Sequence[str]) -> str:
    """Say which known word was probably meant."""
    import difflib  # only on the way to an error

    near = difflib.get_close_matches(word[:100], known, 1, 0.5)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}" if known else ""

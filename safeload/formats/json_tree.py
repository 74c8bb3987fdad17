"""JSON as formats carry it: parsed whole within bounds, repeated keys noted, nothing but plain data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from safeload.errors import MalformedError
from safeload.findings import escape

__all__ = ["Document", "parse_json", "texts_in", "whole"]

_NAMED: Final = 8
_CONTAINERS: Final = 2_000_000  # an empty one takes thirty times as much memory as it has bytes


@dataclass(frozen=True, slots=True)
class Document:
    """One JSON document.

    Attributes:
        root: Plain data: dict, list, str, int, float, bool, None.
        repeated: Keys that stand twice in one object, as far as they are worth naming. Readers differ in which one they take.
    """

    root: Any
    repeated: tuple[str, ...] = ()


@dataclass(slots=True)
class _Pairs:
    repeated: list[str] = field(default_factory=list)

    def take(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs) and len(self.repeated) < _NAMED:
            seen: set[str] = set()
            self.repeated += [key for key, _ in pairs if key in seen or seen.add(key)][: _NAMED - len(self.repeated)]  # type: ignore[func-returns-value]
        return made


def parse_json(data: bytes | bytearray | memoryview, most: int, what: str = "the document") -> Document:
    """Parse a JSON document.

    Args:
        data: UTF-8, with or without a byte order mark.
        most: Longest document, in bytes; what comes of it takes up to twelve times as much memory.
        what: For messages.

    Raises:
        MalformedError: it is longer, is not JSON, is nested too deep, has millions of arrays, or holds a number of thousands of digits.
    """
    if len(data) > most:
        raise MalformedError(f"{what} has {len(data)} bytes; at most {most} are read")
    raw = bytes(data)
    if raw.count(b"[") + raw.count(b"{") > _CONTAINERS:
        raise MalformedError(f"{what} has more than {_CONTAINERS} arrays and objects")
    pairs = _Pairs()
    try:
        root = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=pairs.take)
    except RecursionError:
        raise MalformedError(f"{what} is nested too deep") from None
    except UnicodeDecodeError as error:
        raise MalformedError(f"{what} is not UTF-8", where=f"@{error.start}") from None
    except json.JSONDecodeError as error:
        raise MalformedError(f"{what} is not valid JSON: {escape(error.msg).lower()}", where=f"@{error.pos}") from None
    except ValueError:  # Python's bound on the digits of an integer
        raise MalformedError(f"{what} holds an integer of too many digits") from None
    return Document(root, tuple(pairs.repeated))


def texts_in(root: Any, most: int = 1_000_000) -> Iterator[tuple[str, str]]:
    """Yield (path, text) of every text in plain data, keys too, at most `most` of them. Never recurses.

    A path is written as people do: `learner.attributes.note`, `trees[3].name`.
    """
    todo: list[tuple[str, Any]] = [("", root)]
    while todo and most:
        path, value = todo.pop()
        if isinstance(value, str):
            most -= 1
            yield path, value
        elif isinstance(value, Mapping):
            for key, item in value.items():
                if isinstance(key, str):
                    most -= 1
                    yield path, key
                if isinstance(item, (str, Mapping, list, tuple)):
                    todo.append((f"{path}.{key}" if path else str(key), item))
        elif isinstance(value, Sequence) and value and isinstance(value[0], (str, Mapping, list, tuple)):
            todo += [(f"{path}[{index}]", item) for index, item in enumerate(value) if isinstance(item, (str, Mapping, list, tuple))]


def whole(value: Any, least: int, most: int) -> int | None:
    """An integer within bounds, also when it is written as text (as XGBoost does); None for anything else."""
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) < 20:
        value = int(value)
    return value if type(value) is int and least <= value <= most else None

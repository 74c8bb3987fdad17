"""YAML as configurations carry it: PyYAML's parser alone, without its constructors. Tags are told, and never followed.

Only events are taken from the library (its Python parser, which no C code stands behind); from them comes plain data, in which an
alias is the very node that it names. So nothing grows, and no tag can make anything.
Source: YAML 1.1 as PyYAML 6 reads it, which OmegaConf, MLflow, Hydra and Lightning use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from safeload.errors import MalformedError
from safeload.findings import escape
from safeload.lean_dataclass import dataclass, field

__all__ = ["LARGEST", "YamlDocument", "mappings_in", "parse_yaml", "scalars_in"]

LARGEST: Final = 512 << 10
"""Bytes of the longest text that is parsed: PyYAML takes about a second for each 60 KiB."""

_DEPTH: Final = 100
_NODES: Final = 200_000
_NAMED: Final = 8
_PLAIN_TAG: Final = re.compile(
    r"(?:tag:yaml\.org,2002:(?:str|int|float|bool|null|map|seq|set|omap|pairs|binary|timestamp|merge|value)|!)\Z"
)


@dataclass(slots=True)
class YamlDocument:
    """One document.

    Attributes:
        root: Dicts, lists and texts: a scalar stays as it is written.
        tags: (tag, text of a tagged scalar or ""), for every tag beyond YAML's own.
        repeated: Keys that stand twice in one mapping.
    """

    root: Any = None
    tags: list[tuple[str, str]] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)


def parse_yaml(data: bytes, what: str = "the text") -> tuple[list[YamlDocument], str | None]:
    """Parse a text document by document.

    Args:
        data: UTF-8, or UTF-16 with a mark.
        what: For messages.

    Returns:
        The documents that are complete, and why the text breaks behind them, or None.

    Raises:
        MalformedError: it is too long to be parsed.
    """
    if len(data) > LARGEST:
        raise MalformedError(f"{what} has {len(data)} bytes; at most {LARGEST} are read of YAML")
    import yaml

    builder = _Builder()
    try:
        for event in yaml.parse(data, Loader=yaml.BaseLoader):
            builder.take(event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        return builder.documents, f"{what} is not valid YAML{where}: {escape(str(problem), 120)}"
    except (ValueError, OverflowError):  # an escape that names no character
        return builder.documents, f"{what} is not valid YAML: an escape that names no character"
    except RecursionError:
        return builder.documents, f"{what} is nested too deep"
    except MalformedError as error:
        return builder.documents, f"{what} {error.message}"
    return builder.documents, None


class _Builder:
    """Puts nodes together from events; never recurses."""

    def __init__(self) -> None:
        self.documents: list[YamlDocument] = []
        self.current = YamlDocument()
        self.anchors: dict[str, Any] = {}
        self.open: list[tuple[Any, list[Any]]] = []  # a container, and for a mapping the key that waits for its value
        self.nodes = 0

    def take(self, event: Any) -> None:
        """Take one event of PyYAML's, which have their attributes by kind.

        Raises:
            MalformedError: too many nodes, too deep, or an alias of nothing.
        """
        kind = type(event).__name__
        if kind == "DocumentStartEvent":
            self.current, self.anchors = YamlDocument(), {}
        elif kind == "DocumentEndEvent":
            self.documents.append(self.current)
        elif kind == "AliasEvent":
            if event.anchor not in self.anchors:
                raise MalformedError(f"refers to '{escape(str(event.anchor), 40)}', which was not named before")
            self.put(self.anchors[event.anchor])
        elif kind == "ScalarEvent":
            self.node(event, event.value, event.value)
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            made: Any = {} if kind == "MappingStartEvent" else []
            self.node(event, made, "")
            self.open.append((made, []))
            if len(self.open) > _DEPTH:
                raise MalformedError(f"is nested deeper than {_DEPTH} levels")
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            self.open.pop()

    def node(self, event: Any, value: Any, text: str) -> None:
        """A node of its own: count it, note its tag and anchor."""
        self.nodes += 1
        if self.nodes > _NODES:
            raise MalformedError(f"has more than {_NODES} nodes")
        if event.tag is not None and not _PLAIN_TAG.match(event.tag):
            self.current.tags.append((event.tag, text))
        if event.anchor is not None:
            self.anchors[event.anchor] = value
        self.put(value)

    def put(self, value: Any) -> None:
        """Give a value to whatever is open."""
        if not self.open:
            self.current.root = value
            return
        container, key = self.open[-1]
        if isinstance(container, list):
            container.append(value)
        elif not key:
            key.append(value)
        else:
            name = key.pop()
            if not isinstance(name, str):  # a key that is a list or a mapping: kept, so that it is looked at
                name, value = f"? {len(container)}", [name, value]
            elif name in container and len(self.current.repeated) < _NAMED:
                self.current.repeated.append(name)
            container[name] = value


def mappings_in(root: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (path, mapping) of every mapping, each once although aliases may lead to it many times."""
    seen: set[int] = set()
    todo: list[tuple[str, Any]] = [("", root)]
    while todo:
        path, value = todo.pop()
        if not isinstance(value, (dict, list)) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            yield path, value
            todo += [(f"{path}.{key}" if path else key, item) for key, item in value.items()]
        else:
            todo += [(f"{path}[{index}]", item) for index, item in enumerate(value)]


def scalars_in(root: Any) -> Iterator[tuple[str, str]]:
    """Yield (path, text) of every key and scalar, each node once."""
    if isinstance(root, str):
        yield "", root
    seen: set[int] = set()
    todo: list[tuple[str, Any]] = [("", root)]
    while todo:
        path, value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, item in pairs:
            here = (f"{path}.{key}" if path else key) if isinstance(key, str) else f"{path}[{key}]"
            if isinstance(key, str):
                yield path, key
            if isinstance(item, str):
                yield here, item
            elif isinstance(item, (dict, list)):
                todo.append((here, item))

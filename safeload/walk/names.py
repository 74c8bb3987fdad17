"""What a global is known to do: knowledge that explains a refusal and sets its level. It never permits anything.

The knowledge lies in `names.json` beside this module and is read when the first global that is not modelled is met.
Nothing that is described there is ever imported. What it holds:

* `whole`: a module that is dangerous with all it holds. "code" is a plain module, "asyncio.*" a package with its submodules.
* `functions`: a package whose functions are dangerous; its classes are as ordinary as any.
* `names`: single attributes, dotted for methods. `anywhere`: attributes that mean the same in whatever module they are found.
* `called`: classes that are ordinary where a stream names them, and reach files or models when it calls them with arguments.
* `harmless`: attributes (or "*") that are ordinary data although they lie in a dangerous module.
* `reviewed`: modules of the standard library that were looked at and hold nothing to list.
* `purposes`: by longest prefix, what an ordinary global is for.
* `machinery`: attributes that lead from any object to what lies behind it. `handed-on`: modules that others import and so
  hand on, as far as nobody names a class or function of their own like that. `lower-case-classes`: classes, after which a dot
  means a method and not a module. `vendored`: directories in which packages carry copies of others.

A name that is nowhere in the table is a warning: not modelled. Only a name that is known to reach code, files, processes,
the network and so on is an error, so that nobody learns to ignore errors.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from typing import Final

from safeload.findings import Level, escape
from safeload.lean_dataclass import dataclass

__all__ = ["CAPABILITIES", "Knowledge", "deception_level", "deceptive", "display", "know", "know_called", "know_fetched"]

CAPABILITIES: Final = (
    "runs code",
    "starts a process",
    "imports code",
    "loads a native library",
    "reads files",
    "writes files",
    "network",
    "deserialises",
    "walks attributes",
    "defers execution",
    "changes the interpreter",
    "changes the process's state",
    "runs an interpreter",
    "environment",
    "resource use",
)

# Longer names are not looked up piece by piece: no pickler writes them, and the search is quadratic in the pieces.
_LONGEST: Final = 1_000
_DEEPEST: Final = 32

# Names that stand for a module without being its name.
_ALIASES: Final = {
    ("__builtin__",): ("builtins",),
    ("__builtins__",): ("builtins",),
    ("exceptions",): ("builtins",),
    ("bltns",): ("builtins",),
    ("os", "path"): ("posixpath",),
    ("macpath",): ("posixpath",),
    ("os2emxpath",): ("posixpath",),
}

_CLASS_LIKE: Final = re.compile(r"_*[A-Z]")

# Letters of other scripts that look like Latin ones (Cyrillic, Greek, Armenian, dotless and script forms).
_LOOK_ALIKES: Final = frozenset(
    map(
        chr,
        [
            *(0x430, 0x435, 0x43E, 0x440, 0x441, 0x443, 0x445, 0x455, 0x456, 0x458, 0x501, 0x4BB, 0x4CF, 0x51B, 0x51D),
            *(0x410, 0x412, 0x415, 0x41A, 0x41C, 0x41D, 0x41E, 0x420, 0x421, 0x422, 0x423, 0x425, 0x405, 0x406, 0x408),
            *(0x391, 0x392, 0x395, 0x396, 0x397, 0x399, 0x39A, 0x39C, 0x39D, 0x39F, 0x3A1, 0x3A4, 0x3A5, 0x3A7, 0x3BD, 0x3BF),
            *(0x578, 0x57D, 0x585, 0x570, 0x131, 0x251, 0x261, 0x269, 0x28F, 0x1D0F, 0x1D1C, 0x1D20, 0x1D21, 0x1D22),
        ],
    )
)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is known of one global.

    Attributes:
        name: "module.attribute", escaped for printing.
        level: ERROR when it is known to reach code, files, processes and the like; WARNING when it is merely not modelled.
        capability: One of `CAPABILITIES`, or None.
        reason: One line: what it does, or what it is for; None when nothing is known.
    """

    name: str
    level: Level
    capability: str | None
    reason: str | None


_Verdict = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Table:
    """`names.json`, parsed once."""

    groups: list[_Verdict]
    whole: dict[str, int]
    trees: frozenset[str]
    functions: dict[str, int]
    names: dict[str, dict[str, int]]
    called: dict[str, int]
    harmless: dict[str, frozenset[str]]
    anywhere: dict[str, int]
    purposes: dict[str, str]
    tops: frozenset[str]
    machinery: frozenset[str]
    handed_on: frozenset[str]
    lower_classes: frozenset[str]
    vendored: frozenset[str]


@functools.lru_cache(maxsize=1024)  # many streams of one file name the same
def know(module: str, attribute: str) -> Knowledge:
    """Say what the global `module.attribute` is known to do, with Python 2 names translated as `pickle` translates them.

    Args:
        module: As the stream spells it; may be anything.
        attribute: Likewise; a dotted one is followed to what it reaches.
    """
    shown = display(module, attribute)
    if len(module) + len(attribute) > _LONGEST or module.count(".") + attribute.count(".") > _DEEPEST:
        return Knowledge(shown, Level.ERROR, "walks attributes", "no ordinary global has so long a name")
    table = _table()
    for spelling in dict.fromkeys(((module, attribute), _modern(module, attribute))):
        parts, base = _aliased([*spelling[0].split("."), *spelling[1].split(".")], spelling[0].count(".") + 1)
        verdict = _judge(table, parts, base)
        if verdict is not None:
            return Knowledge(shown, Level.ERROR, *verdict)
    return Knowledge(shown, Level.WARNING, None, _purpose(table, module, attribute))


def know_called(module: str, attribute: str) -> Knowledge | None:
    """Say what `module.attribute` does when it is called with arguments, where that is worse than naming it; None elsewhere."""
    table = _table()
    group = table.called.get(f"{module}.{attribute}")
    return None if group is None else Knowledge(display(module, attribute), Level.ERROR, *table.groups[group])


def know_fetched(module: str, attribute: str, fetched: str) -> Knowledge:
    """Say what `getattr(module.attribute, fetched)` reaches, so that a bound method is told from a way into the machinery.

    Pickle writes bound methods and, below protocol 4, nested classes as such a call.
    """
    return know(module, f"{attribute}.{fetched}")


def display(module: str, attribute: str) -> str:
    """Return "module.attribute" with everything escaped that could deceive a reader."""
    return escape(f"{module}.{attribute}")


@functools.lru_cache(maxsize=1024)
def deceptive(module: str, attribute: str) -> str | None:
    """Say why a name is not what it seems, or None.

    Nested classes ("Outer.Inner") and methods ("Class.method") are spelt with dots by pickle itself and deceive nobody.
    """
    both = f"{module}.{attribute}"
    if not module or not attribute:
        return "a part of the name is empty"
    if len(both) > _LONGEST:
        return f"the name has {len(both)} characters"
    if not both.isascii():
        found = _foreign(both)
        if found:
            return found
    if not both.isprintable() or escape(both) != both:
        return "control or invisible characters in the name"
    if any(char.isspace() for char in both):
        return "white space in the name"
    if "" in both.split("."):
        return "two dots in a row, or a dot at an end"
    if not all(part.isidentifier() for part in both.split(".")):
        return "a part of the name is no identifier: no ordinary import finds it"
    return _deceptive_walk(attribute)


def deception_level(module: str, attribute: str) -> Level:
    """How bad a name is that `deceptive` has a word about.

    Dots behind a name in lower case lead through a module, or to a method of a class that somebody named like that, as
    scipy does. Where it cannot be told, it is a warning: the name is refused in any case, as every name that is not modelled.
    """
    table, parts = _table(), attribute.split(".")
    if deceptive(module, attribute) != _dots(attribute):
        return Level.ERROR
    modules = table.tops | table.handed_on | sys.stdlib_module_names
    return Level.ERROR if any(part.lstrip("_") in modules for part in parts[:-1]) else Level.WARNING


def _deceptive_walk(attribute: str) -> str | None:
    """Dots and dunders that lead elsewhere than the module says."""
    table = _table()
    for part in attribute.split("."):
        if part in table.machinery:
            return f"reaches Python's machinery through '{part}'"
    return _dots(attribute)


def _dots(attribute: str) -> str | None:
    """Dots behind what is not named like a class."""
    parts = attribute.split(".")
    for part in parts[:-1]:
        if not _CLASS_LIKE.match(part) and part not in _table().lower_classes:
            return f"walks on from '{part}' to '{parts[-1]}' by dots"
    return None


def _foreign(name: str) -> str | None:
    """Characters outside ASCII that are folded together with others, or look like Latin letters."""
    try:
        folded = unicodedata.normalize("NFKC", name)
    except ValueError:  # pragma: no cover - normalize takes any str today; a newer Unicode may not
        return "characters that cannot be compared"
    if any(0xD800 <= ord(char) < 0xE000 for char in name):
        return "half of a surrogate pair in the name"
    if folded != name:
        return "characters that fold into others, so two spellings look the same"
    if any(char in _LOOK_ALIKES for char in name):
        return "letters of another script that look like Latin ones"
    return None


def _modern(module: str, attribute: str) -> tuple[str, str]:
    """The Python 3 name, as `pickle` maps it for protocols below 3."""
    if (module, attribute) in NAME_MAPPING:
        return NAME_MAPPING[(module, attribute)]
    return IMPORT_MAPPING.get(module, module), attribute


def _aliased(parts: list[str], base: int) -> tuple[list[str], int]:
    """Replace a module that goes by another name."""
    for length in (2, 1):
        other = _ALIASES.get(tuple(parts[:length]))
        if other is not None and len(parts) > length:
            return [*other, *parts[length:]], max(1, base - length + len(other))
    return parts, base


def _judge(table: _Table, parts: list[str], base: int) -> _Verdict | None:
    """Why `parts` (the first `base` of them the module) is dangerous, or None."""
    found = _listed(table, parts, base)
    if found is not None:
        return table.groups[found]
    for part in parts[base:]:
        if part in table.machinery:
            return ("walks attributes", f"reaches Python's machinery through '{escape(part, 40)}'")
    copied = next((index for index in range(base) if parts[index] in table.vendored and index + 2 < len(parts)), None)
    if copied is not None:
        # A copy of a package that another package carries along is as dangerous as the original.
        inner = _judge(table, parts[copied + 1 :], max(1, base - copied - 1))
        if inner is not None:
            return inner
    return _handed_on(table, parts, base)


def _listed(table: _Table, parts: list[str], base: int) -> int | None:
    """The group of the longest entry that covers `parts`; None when none does or the entry says harmless."""
    plain_class = _CLASS_LIKE.match(parts[-1]) is not None
    for end in range(len(parts), 0, -1):
        for split in range(end - 1, 0, -1):
            module, attribute = ".".join(parts[:split]), ".".join(parts[split:end])
            entry = table.names.get(module)
            if entry is not None and attribute in entry:
                return entry[attribute]
            if split <= base and _is_harmless(table, module, attribute):
                return None
        prefix = ".".join(parts[:end])
        if prefix in table.whole:
            # The submodule of a plain module cannot be the standard library's: a project with a directory of that name.
            if prefix in table.trees or end >= base or not plain_class:
                return table.whole[prefix]
            return None
        if prefix in table.functions and end < len(parts):
            return None if plain_class else table.functions[prefix]
    return None


def _is_harmless(table: _Table, module: str, attribute: str) -> bool:
    entry = table.harmless.get(module)
    return entry is not None and (attribute in entry or "*" in entry)


def _handed_on(table: _Table, parts: list[str], base: int) -> _Verdict | None:
    """A module, or what it is known for, reached through another module that imported it."""
    last = len(parts) - 1
    for index in range(base, len(parts)):
        part = parts[index].lstrip("_")
        if index == base and parts[index] == parts[base - 1]:
            continue  # datetime.datetime, array.array: a class named like its module
        module = part in table.tops or part in table.handed_on or part in sys.stdlib_module_names
        if index < last and module and part not in table.lower_classes:
            inner = _judge(table, *_aliased([part, *parts[index + 1 :]], 1))
            way = f"reached through the module '{escape(part, 40)}' inside another"
            return (inner[0], f"{inner[1]}; {way}") if inner else ("walks attributes", way)
        if index == last and part in table.handed_on:
            return ("walks attributes", f"is the module '{part}' itself, handed on by another module")
    if base <= last:
        whole_name = ".".join(parts)
        if not _CLASS_LIKE.match(parts[last]) and (whole_name in table.names or whole_name in table.whole or whole_name in table.functions):
            return ("changes the process's state", "is a module and no class: what is set on it is set for the whole process")
        carried = table.anywhere.get(parts[last])
        return None if carried is None else table.groups[carried]
    return None


def _purpose(table: _Table, module: str, attribute: str) -> str | None:
    """What an ordinary global is for, by the longest prefix."""
    parts = f"{module}.{attribute}".split(".")
    for end in range(len(parts), 0, -1):
        found = table.purposes.get(".".join(parts[:end]))
        if found is not None:
            return found
    return "a part of Python's standard library" if parts[0] in sys.stdlib_module_names else None


@functools.cache
def _table() -> _Table:
    """Read and index `names.json`, once."""
    import json
    from pathlib import Path

    data = json.loads(Path(__file__).with_name("names.json").read_text("ascii"))
    groups: list[_Verdict] = []
    whole: dict[str, int] = {}
    functions: dict[str, int] = {}
    names: dict[str, dict[str, int]] = {}
    called: dict[str, int] = {}
    anywhere: dict[str, int] = {}
    trees = set()
    for number, group in enumerate(data["groups"]):
        groups.append((group["capability"], group["reason"]))
        for entry in group.get("whole", "").split():
            module = entry.removesuffix(".*")
            whole[module] = number
            if module != entry:
                trees.add(module)
        functions.update(dict.fromkeys(group.get("functions", "").split(), number))
        anywhere.update(dict.fromkeys(group.get("anywhere", "").split(), number))
        for module, attributes in group.get("names", {}).items():
            names.setdefault(module, {}).update(dict.fromkeys(attributes.split(), number))
        for module, attributes in group.get("called", {}).items():
            called.update((f"{module}.{attribute}", number) for attribute in attributes.split())
    harmless = {module: frozenset(attributes.split()) for module, attributes in data["harmless"].items()}
    tops = frozenset(module.split(".")[0] for module in (*whole, *functions, *names))
    words = {key: frozenset(data[key].split()) for key in ("machinery", "handed-on", "lower-case-classes", "vendored")}
    return _Table(
        groups=groups,
        whole=whole,
        trees=frozenset(trees),
        functions=functions,
        names=names,
        called=called,
        harmless=harmless,
        anywhere=anywhere,
        purposes=data["purposes"],
        tops=tops,
        machinery=words["machinery"],
        handed_on=words["handed-on"],
        lower_classes=words["lower-case-classes"],
        vendored=words["vendored"],
    )

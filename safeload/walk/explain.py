"""Turn what the machine kept into findings that a person can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from safeload.findings import Finding, Level, escape
from safeload.rules import RULES
from safeload.walk import FETCHER
from safeload.walk import kinds as k

if TYPE_CHECKING:
    from safeload.walk import Walker
    from safeload.walk.names import Knowledge

__all__ = ["call_text", "findings_of"]

_TEXT: Final = 80
_WIDTH: Final = 6
_DEPTH: Final = 5
_LONGEST: Final = 400
_PLAIN: Final = frozenset({k.BOOL, k.INT, k.FLOAT, k.STR, k.BYTES, k.BYTEARRAY, k.TUPLE, k.LIST, k.DICT, k.SET, k.FROZENSET})


def findings_of(walker: Walker) -> list[Finding]:
    """All findings of one walk, in stream order, without a member."""
    found = [Finding(rule=rule, level=RULES[rule].level, message=escape(message, 300), offset=at) for rule, message, at in walker.notes]
    if any(entry[3] is None for entry in walker.globals):
        found += _globals(walker)
    found.sort(key=lambda item: item.offset or 0)
    return found


def _globals(walker: Walker) -> list[Finding]:
    """One finding per global that is not modelled; the calls on it are shown as they would be written."""
    from safeload.walk.names import deception_level, deceptive, know, know_called

    calls: dict[int, list[tuple[str, int, int, int, int]]] = {}
    for event in walker.events:
        calls.setdefault(event[4], []).append(event)
    found = []
    for index, (module, attribute, offset, modelled, name) in enumerate(walker.globals):
        if modelled is not None or module is None:  # a stand-in of the machine's has a note of its own
            continue
        fetcher = (module, attribute) == FETCHER
        if fetcher and walker.fetches_only:
            continue
        knowledge = know(module, attribute)
        if fetcher:
            knowledge = _fetched(walker, [event for event in calls.get(index, []) if event[1] == index << 6 | k.UNKNOWN]) or knowledge
        mine = [event for event in calls.get(index, []) if event[0] not in ("APPEND", "APPENDS", "ADDITEMS", "SETITEM", "SETITEMS")]
        if knowledge.level is Level.WARNING and any(_has_arguments(walker, event) for event in mine):
            knowledge = know_called(module, attribute) or knowledge
        shown = escape(name)
        why = f" ({knowledge.reason})" if knowledge.reason else ""
        if knowledge.level is Level.ERROR:
            rule, text = ("SL101", f"calls {call_text(walker, mine[0])}{why}") if mine else ("SL102", f"names {shown}{why}")
        else:
            rule, text = "SL103", f"{shown} is not modelled{why}"
        at = mine[0][3] if mine and rule == "SL101" else offset
        found.append(Finding(rule=rule, level=knowledge.level, message=text, offset=at, subject=name))
        trick = deceptive(module, attribute)
        if trick:
            level = deception_level(module, attribute) if knowledge.level is Level.WARNING else RULES["SL108"].level
            found.append(Finding(rule="SL108", level=level, message=f"{shown}: {trick}", offset=offset, subject=name))
    return found


def _fetched(walker: Walker, events: list[tuple[str, int, int, int, int]]) -> Knowledge | None:
    """What the getattr calls fetch, when all of them are bound methods or nested classes as pickle writes them."""
    from safeload.walk.names import Knowledge, know_fetched

    if not events:
        return None
    for name, _, args, _, _ in events:
        slots, total = walker.children(args) if args & 63 == k.TUPLE else ([], 0)
        if name != "REDUCE" or total != 2 or slots[1] & 63 != k.STR or not slots[1] >> 6:
            return None
        module, attribute = _class_of(walker, slots[0])
        if module is None:
            return None
        found = know_fetched(module, attribute, str(walker.constant(slots[1])))
        if found.level is Level.ERROR:
            return found
    return Knowledge("builtins.getattr", Level.WARNING, None, "how pickle writes bound methods and nested classes")


def _has_arguments(walker: Walker, event: tuple[str, int, int, int, int]) -> bool:
    """Whether a call passes anything: an object that is made empty and filled by BUILD opens and loads nothing."""
    name, _, args, _, _ = event
    if name == "NEWOBJ_EX":
        parts = walker.children(args)[0] if args & 63 == k.TUPLE else [args]
        return any(part & 63 not in (k.TUPLE, k.DICT) or walker.children(part)[1] for part in parts)
    return name != "BUILD" and (args & 63 != k.TUPLE or walker.children(args)[1] > 0)


def _class_of(walker: Walker, slot: int) -> tuple[str | None, str]:
    """The global that a value is or comes from: a class, what a call gives, plain data. (None, "") for anything else."""
    kind = slot & 63
    if kind in _PLAIN:
        return "builtins", k.NAMES[kind]
    index = walker.events[slot >> 6][4] if kind == k.RESULT else slot >> 6 if kind in (k.UNKNOWN, k.GLOBAL, k.TYPE, k.FETCHER) else -1
    return walker.globals[index][:2] if index >= 0 else (None, "")


def call_text(walker: Walker, event: tuple[str, int, int, int, int], depth: int = _DEPTH) -> str:
    """A call as a person would write it, bounded and escaped: `os.system("curl …")`.

    Args:
        walker: The finished walk.
        event: One of its events.
        depth: How deep arguments are written out. A memo entry can make a call its own argument: it must go down.
    """
    if depth <= 0:
        return "…"
    name, callee, args, _, _ = event
    function = _slot_text(walker, callee, depth - 1)
    if name == "BUILD":
        text = f"{function}.__setstate__({_slot_text(walker, args, depth - 1)})"
    elif args & 63 != k.TUPLE:
        text = f"{function}(*{_slot_text(walker, args, depth - 1)})"
    else:
        slots, total = walker.children(args)
        tail = []
        if name == "NEWOBJ_EX" and len(slots) == 2:
            tail = [f"**{_slot_text(walker, slots[1], depth - 1)}"]
            slots, total = walker.children(slots[0]) if slots[0] & 63 == k.TUPLE else ([slots[0]], 1)
        shown = [_slot_text(walker, slot, depth - 1) for slot in slots[:_WIDTH]]
        text = f"{function}({', '.join(shown + ['…'] * (total > _WIDTH) + tail)})"
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _slot_text(walker: Walker, slot: int, depth: int) -> str:
    """One value, bounded in depth, width and length."""
    kind = slot & 63
    if kind in (k.UNKNOWN, k.FETCHER, k.GLOBAL, k.TYPE, k.STORAGE_TYPE, k.DTYPE, k.QSCHEME) and (slot >> 6 or kind == k.UNKNOWN):
        return escape(walker.globals[slot >> 6][4], _TEXT)
    if kind == k.RESULT:
        return call_text(walker, walker.events[slot >> 6], depth)
    if kind in (k.NONE, k.BOOL, k.INT, k.BIGINT, k.FLOAT, k.STR, k.BYTES, k.BYTEARRAY) and (slot >> 6 or kind == k.NONE):
        return _constant(walker.constant(slot))
    if kind in (k.TUPLE, k.LIST, k.DICT, k.SET, k.FROZENSET):
        return _container(walker, slot, depth)
    return f"<{k.NAMES.get(kind, 'value')}>"


def _constant(value: object) -> str:
    if isinstance(value, (str, bytes, bytearray)):
        text = repr(value[:_TEXT])
        return escape(text, 2 * _TEXT) + ("…" if len(value) > _TEXT else "")
    if isinstance(value, int) and value.bit_length() > 256:
        return f"<an integer of {value.bit_length()} bits>"
    return repr(value)


def _container(walker: Walker, slot: int, depth: int) -> str:
    kind = slot & 63
    left, right = {k.TUPLE: ("(", ")"), k.LIST: ("[", "]")}.get(kind, ("{", "}"))
    slots, total = walker.children(slot)
    if depth <= 0 and total:
        return f"{left}…{right}"
    if kind == k.DICT:
        pairs = [
            f"{_slot_text(walker, slots[i], depth - 1)}: {_slot_text(walker, slots[i + 1], depth - 1)}"
            for i in range(0, min(len(slots) - 1, 2 * _WIDTH), 2)
        ]
        return "{" + ", ".join(pairs + ["…"] * (total > 2 * len(pairs))) + "}"
    shown = [_slot_text(walker, item, depth - 1) for item in slots[:_WIDTH]]
    tail = "," if kind == k.TUPLE and total == 1 else ""
    return left + ", ".join(shown + ["…"] * (total > _WIDTH)) + tail + right

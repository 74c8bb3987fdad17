"""From a manifest back to objects, by the same model that builds from a pickle stream.

Every call goes through `Model.call`, so the same signatures are asked and the same handlers look at the values. The order is
that of an unpickler: what a call needs is made before it, what is done to an object comes after it exists. Nothing recurses.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from typing import Any, Final

from safeload.conversion import scalars
from safeload.conversion.keys import Keys
from safeload.conversion.scalars import Json
from safeload.conversion.storages import Bound
from safeload.errors import MalformedError, RefusedError, SafeloadError
from safeload.findings import escape
from safeload.formats.manifest import KEY, Manifest
from safeload.policy import snippet
from safeload.program import COMPLEX, DTYPE_BITS, Inert, metered
from safeload.source import Source
from safeload.walk import kinds as k
from safeload.walk.model import Model

__all__ = ["build_tree"]

_OPS: Final = frozenset({"REDUCE", "NEWOBJ", "NEWOBJ_EX"})
_DIMS: Final = 64
_ROUNDS: Final = 64
_TENSOR: Final = frozenset({"of", "shape", "dtype", "stride", "offset", "requires_grad", "conj", "neg", "plain"})
_NOTHING: Final = object()


def build_tree(manifest: Manifest, bound: Bound, model: Model, source: Source) -> Any:
    """Build the object of a manifest.

    Args:
        manifest: Parsed.
        bound: Its storages, from `bind`.
        model: Made with `manifest.walk`; it decides what becomes of globals that are not modelled, and makes the values.
        source: Where long bytes are read from.

    Raises:
        RefusedError: a global is not modelled, and the model refuses those.
        MalformedError: the manifest asks for something that no build makes.
        LimitError: its keys stand for too many values.
    """
    refused = [name for name in manifest.walk.unmodelled if name not in model.grants]
    if refused and model.unknown != "inert":
        names = ", ".join(escape(name) for name in refused[:20]) + (", …" if len(refused) > 20 else "")
        hint = 'as inert data: safeload.load(..., unknown="inert"); if you trust these classes, grant them in your policy:\n'
        hint += "\n".join(f"    {line}" for line in snippet(refused).splitlines())
        message = f"refused: names globals that are not modelled: {names}"
        raise RefusedError(message, where=f"!{KEY}", hint=hint, globals=refused).under("SL103")
    model.held = source.size
    try:
        with metered(model.compare):
            found = _Builder(manifest, bound, model, source).run()
        model.compare(0)  # a comparison that was given up says "not equal"
    except SafeloadError as error:
        raise error.at(f"!{KEY}") from None
    except RecursionError:
        raise MalformedError("calls are nested too deep", where=f"!{KEY}").under("SL401") from None
    return found


class _Builder:
    def __init__(self, manifest: Manifest, bound: Bound, model: Model, source: Source) -> None:
        self.nodes = manifest.nodes
        self.root = manifest.root
        self.bound, self.model, self.source = bound, model, source
        self.made: list[Any] = [_NOTHING] * len(self.nodes)
        self.keys = Keys(model.compare)
        self.at = 0
        self.waiting: list[tuple[int, bool]] = []

    # ---- the order of things

    def run(self) -> Any:
        """Make what the root refers to, then whatever had to wait for something that contains it."""
        number = self.reference(self.root)
        if number is None:
            return self.value(self.root)
        self.visit(number)
        for _ in range(_ROUNDS):
            if not self.waiting:
                return self.made[number]
            waiting, self.waiting = self.waiting, []
            for index, filling in waiting:
                if filling:
                    self.fill(index)
                else:
                    self.make(index)
            if len(self.waiting) == len(waiting):
                break
        raise self.bad("immutable values that contain each other")

    def visit(self, first: int) -> None:
        """Depth first: what a node is made of, the node, what is put into it."""
        entered = bytearray(len(self.nodes))
        todo: list[tuple[int, Iterator[int] | None, int]] = [(first, None, 0)]
        while todo:
            number, below, phase = todo.pop()
            if below is None:
                if entered[number]:
                    continue
                entered[number] = 1
                below = iter(self.needs(number))
            child = next((child for child in below if not entered[child]), None)
            if child is not None:
                todo += [(number, below, phase), (child, None, 0)]
            elif phase == 0:
                self.make(number)
                todo.append((number, iter(self.holds(number)), 1))
            else:
                self.fill(number)

    def needs(self, number: int) -> list[int]:
        """Nodes that must be there before this one can be made."""
        node = self.nodes[number]
        kind = node[0]
        if kind in ("tuple", "frozenset"):
            return self.below(self.items(node, 1, 2))
        if kind == "call":
            callee, args, more = self.call_parts(node)
            found = self.below([callee, *args])
            return found + self.below(part for pair in self.as_pairs(more.get("kwargs", [])) for part in pair)
        return []

    def holds(self, number: int) -> list[int]:
        """Nodes that are put into this one once it exists."""
        node = self.nodes[number]
        kind = node[0]
        if kind in ("list", "set"):
            return self.below(self.items(node, 1, 2))
        if kind == "deque":
            return self.below(self.items(node, 2, 3))
        if kind in ("dict", "counter"):
            return self.below(part for pair in self.as_pairs(self.items(node, 1, 2)) for part in pair)
        if kind == "odict":
            pairs = self.as_pairs(self.items(node, 1, 2, 3))
            return self.below(part for pair in [*pairs, *(self.as_pairs(node[2]) if len(node) == 3 else [])] for part in pair)
        if kind == "defaultdict":
            return self.below(part for pair in self.as_pairs(self.items(node, 2, 3)) for part in pair)
        if kind == "call":
            return self.below(part for _, value in self.then(node) for part in value)
        return []

    # ---- JSON

    def bad(self, message: str, number: int | None = None) -> MalformedError:
        where = "" if number is None else f"@{number}"
        return MalformedError(f"the manifest is not valid: {message}", where=where).under("SL401")

    def reference(self, found: Json) -> int | None:
        """The node that a reference `[n]` means, or None when it is no reference."""
        if type(found) is not list:
            return None
        if len(found) != 1 or type(found[0]) is not int or not 0 <= found[0] < len(self.nodes):
            raise self.bad("a reference to no node")
        number: int = found[0]
        return number

    def below(self, found: Any) -> list[int]:
        return [number for number in map(self.reference, found) if number is not None]

    def items(self, node: Json, at: int, *lengths: int) -> list[Json]:
        if len(node) not in lengths or type(node[at]) is not list:
            raise self.bad(f"a {escape(node[0], 20)} that is none")
        found: list[Json] = node[at]
        return found

    def as_pairs(self, found: Json) -> list[tuple[Json, Json]]:
        if type(found) is not list or any(type(pair) is not list or len(pair) != 2 for pair in found):
            raise self.bad("pairs that are none")
        return [(pair[0], pair[1]) for pair in found]

    def call_parts(self, node: Json) -> tuple[Json, list[Json], dict[str, Json]]:
        if (
            len(node) not in (3, 4)
            or type(node[2]) is not list
            or type(node[-1]) not in (list, dict)
            or (len(node) == 4) != (type(node[-1]) is dict)
        ):
            raise self.bad("a call that is none")
        more = node[3] if len(node) == 4 else {}
        if not set(more) <= {"op", "kwargs", "then"}:
            raise self.bad("a call of unknown form")
        return node[1], node[2], more

    def then(self, node: Json) -> list[tuple[str, list[Json]]]:
        """What is done to a call's result, each with all JSON values in it."""
        steps = self.call_parts(node)[2].get("then", [])
        if type(steps) is not list:
            raise self.bad("a call of unknown form")
        found = []
        for step in steps:
            if type(step) is not list or len(step) != 2 or step[0] not in ("state", "append", "set"):
                raise self.bad("a call of unknown form")
            what, value = step
            if what == "state":
                found.append((what, [value]))
            elif what == "append":
                if type(value) is not list:
                    raise self.bad("a call of unknown form")
                found.append((what, value))
            else:
                found.append((what, [part for pair in self.as_pairs(value) for part in pair]))
        return found

    # ---- values

    def value(self, found: Json) -> Any:
        """The value for JSON; `_NOTHING` for a node that does not exist yet."""
        number = self.reference(found)
        if number is not None:
            return self.made[number]
        if type(found) is dict and set(found) == {"global"}:
            index = found["global"]
            if type(index) is not int or not 0 <= index < len(self.model.values):
                raise self.bad("a global that is not listed")
            return self.model.values[index]
        return scalars.decode(found)

    def values(self, found: list[Json]) -> list[Any] | None:
        """All values, or None while one of them does not exist yet."""
        out = [self.value(item) for item in found]
        return None if any(item is _NOTHING for item in out) else out

    def watched(self, step: Callable[..., Any], *args: Any) -> Any:
        """Take a step; whatever torch or Python say against the values becomes an error of ours, with the node's number."""
        try:
            return step(self, *args)
        except MalformedError as error:
            raise error.at(f"@{self.at}") if not error.where else error from None
        except SafeloadError:
            raise
        except (ValueError, TypeError, OverflowError, ArithmeticError, LookupError, RuntimeError) as error:
            raise self.bad(escape(str(error)), self.at) from None

    def make(self, number: int) -> None:
        node, self.at = self.nodes[number], number
        if node[0] in _EMPTY:
            self.made[number] = _EMPTY[node[0]]()
            return
        maker = _MAKERS.get(node[0])
        if maker is None:
            raise self.bad(f"a node of kind {escape(node[0], 20)}", number)
        made = self.watched(maker, node)
        if made is None:
            self.waiting.append((number, False))
        else:
            self.made[number] = made[0]
            self.watched(_Builder.note, made[0])

    def note(self, made: Any) -> None:
        self.keys.note(made)

    def make_defaultdict(self, node: Json) -> tuple[Any]:
        factory: Any = self.value(node[1]) if len(node) == 3 and type(node[1]) is not list else _NOTHING
        if factory is not None and (factory is _NOTHING or self.model.kind_of(factory) != k.TYPE):
            raise self.bad("a defaultdict whose factory is no type")
        return (collections.defaultdict(factory),)

    def make_deque(self, node: Json) -> tuple[Any]:
        if len(node) != 3 or not (node[1] is None or (type(node[1]) is int and 0 <= node[1] < 1 << 40)):
            raise self.bad("a deque of no length")
        return (collections.deque(maxlen=node[1]),)

    def make_tuple(self, node: Json) -> tuple[Any] | None:
        found = self.values(self.items(node, 1, 2))
        if found is None:
            return None
        return (tuple(found),)

    def make_frozenset(self, node: Json) -> tuple[Any] | None:
        items = self.items(node, 1, 2)
        found = self.values(items)
        if found is None:
            return None
        self.hashing(self.keys.check, found)
        return (self.hashing(frozenset, found),)

    def make_scalar(self, node: Json) -> tuple[Any]:
        if len(node) != 2:
            raise self.bad("a scalar that is none")
        return (scalars.decode(node[1]),)

    def payload(self, index: Any) -> bytes:
        if type(index) is not int or not 0 <= index < len(self.bound.payloads):
            raise self.bad("bytes that are not listed")
        region = self.bound.payloads[index]
        self.model.spend(region.nbytes)
        return self.source.read(region.offset, region.nbytes, "bytes of the manifest")

    def make_bytes(self, node: Json) -> tuple[Any]:
        if len(node) != 2:
            raise self.bad("bytes that are none")
        return (self.payload(node[1]),)

    def make_bytearray(self, node: Json) -> tuple[Any]:
        if len(node) != 2:
            raise self.bad("a bytearray that is none")
        data = self.payload(node[1]) if type(node[1]) is int else scalars.decode(node[1])
        if type(data) is not bytes:
            raise self.bad("a bytearray of no bytes")
        return (bytearray(data),)

    def make_storage(self, node: Json) -> tuple[Any]:
        if len(node) != 2:
            raise self.bad("a storage that is none")
        return (self.storage(node[1]),)

    def storage(self, index: Any) -> Any:
        if type(index) is not int or not 0 <= index < len(self.bound.specs):
            raise self.bad("a storage that is not listed")
        return self.model.made(self.bound.specs[index])

    def make_tensor(self, node: Json) -> tuple[Any]:
        found = node[1] if len(node) == 2 else None
        if type(found) is not dict or not {"of", "shape"} <= set(found) <= _TENSOR:
            raise self.bad("a tensor that has no storage and shape")
        storage = self.storage(found["of"])
        own = self.bound.specs[found["of"]].dtype
        dtype, shape, stride = found.get("dtype", own), found["shape"], found.get("stride")
        flags = {name: found.get(name, False) for name in ("requires_grad", "conj", "neg")}
        if found.get("plain", True) is not True or ("plain" in found and (dtype != own or any(flags.values()))):
            raise self.bad("a tensor that is said to be plain, and is not")
        if type(dtype) is not str or dtype not in DTYPE_BITS or type(shape) is not list or type(stride) not in (list, type(None)):
            raise self.bad("a tensor whose shape or dtype is none")
        if len(shape) > _DIMS or (stride is not None and len(stride) > _DIMS):
            raise self.bad("a tensor of too many dimensions")
        if any(type(flag) is not bool for flag in flags.values()) or any(type(size) is not int or size < 0 for size in shape):
            raise self.bad("a tensor whose shape or flags are none")
        if flags["conj"] and dtype not in COMPLEX:
            raise self.bad("a conjugate of real numbers")
        if stride is None:
            stride, step = [], 1
            for size in reversed(shape):
                stride.insert(0, step)
                step *= max(size, 1)
        version = "" if "plain" in found else "_v2" if dtype == own else "_v3"
        name = f"torch._utils._rebuild_tensor{version}"
        return (self.model.strided(storage, found.get("offset", 0), tuple(shape), tuple(stride), dtype, name, **flags),)

    # ---- calls

    def make_call(self, node: Json) -> tuple[Any] | None:
        callee, args, more = self.call_parts(node)
        pairs = self.as_pairs(more.get("kwargs", []))
        given = self.values([callee, *args, *(part for pair in pairs for part in pair)])
        if given is None:
            return None
        op = more.get("op", "REDUCE")
        positional, rest = tuple(given[1 : 1 + len(args)]), given[1 + len(args) :]
        if op == "GLOBAL":
            if type(callee) is not dict or args or pairs:
                raise self.bad("a global that is called")
            return (given[0],)
        if op == "PERSID":
            return (self.persistent(positional),)
        if type(op) is not str or op not in _OPS:
            raise self.bad("a call of unknown form")
        if any(type(key) is not str for key in rest[::2]):
            raise self.bad("a call of unknown form")
        keywords = dict(zip(rest[::2], rest[1::2], strict=True))
        return (self.model.call(op, given[0], positional, keywords, self.at),)

    def persistent(self, args: tuple[Any, ...]) -> Any:
        if len(args) != 1:
            raise self.bad("a persistent id that is none")
        if self.model.unknown != "inert":
            raise MalformedError("a persistent id, and nothing that gives it a meaning", where=f"@{self.at}").under("SL109")
        return Inert("<a persistent id>", args=args, via="PERSID")

    # ---- what is put in

    def fill(self, number: int) -> None:
        if self.made[number] is _NOTHING:
            self.waiting.append((number, True))
            return
        node, self.at = self.nodes[number], number
        filler = _FILLERS.get(node[0])
        if filler is None:
            return
        done = self.watched(filler, node, self.made[number])
        if not done:
            self.waiting.append((number, True))

    def fill_list(self, node: Json, target: Any) -> bool:
        found = self.values(node[1])
        if found is None:
            return False
        target.extend(found)
        return True

    def fill_deque(self, node: Json, target: Any) -> bool:
        found = self.values(node[2])
        if found is None:
            return False
        target.extend(found)
        return True

    def fill_set(self, node: Json, target: Any) -> bool:
        found = self.values(node[1])
        if found is None:
            return False
        self.hashing(self.keys.check, found)
        self.hashing(target.update, found)
        return True

    def put(self, target: Any, pairs: Json) -> bool:
        """Put pairs into a mapping; its own class's methods are not asked."""
        keys, items = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        found, held = self.values(keys), self.values(items)
        if found is None or held is None:
            return False
        self.hashing(self.keys.check, found)
        set_item = collections.OrderedDict.__setitem__ if type(target) is collections.OrderedDict else dict.__setitem__
        for key, value in zip(found, held, strict=True):
            self.hashing(set_item, target, key, value)
        return True

    def fill_dict(self, node: Json, target: Any) -> bool:
        return self.put(target, node[1])

    def fill_defaultdict(self, node: Json, target: Any) -> bool:
        return self.put(target, node[2])

    def fill_odict(self, node: Json, target: Any) -> bool:
        if len(node) == 2:
            return self.put(target, node[1])
        attributes: dict[Any, Any] = {}
        if any(self.value(part) is _NOTHING for pair in node[1] for part in pair) or not self.put(attributes, node[2]):
            return False
        self.put(target, node[1])
        self.model.build(target, attributes, self.at)
        return True

    def fill_call(self, node: Json, target: Any) -> bool:
        steps = self.then(node)
        given = [self.values(parts) for _, parts in steps]
        if any(values is None for values in given):
            return False
        for (what, _), values in zip(steps, given, strict=True):
            found = values or []
            if what == "state":
                self.model.build(target, found[0], self.at)
            elif what == "append":
                self.model.extend(target, found, "APPENDS", self.at)
            else:
                self.hashing(self.keys.check, found[::2])
                self.hashing(self.model.set_items, target, found, "SETITEMS", self.at)
        return True

    # ---- keys

    def hashing(self, step: Callable[..., Any], *args: Any) -> Any:
        try:
            return step(*args)
        except TypeError as error:
            raise self.bad(f"a key that cannot be hashed: {escape(str(error), 80)}") from None


_EMPTY: Final[dict[str, Callable[[], Any]]] = {
    "list": list, "set": set, "dict": dict, "odict": collections.OrderedDict, "counter": collections.Counter,
}  # fmt: skip
_MAKERS: Final[dict[str, Callable[[_Builder, Json], tuple[Any] | None]]] = {
    "tuple": _Builder.make_tuple, "frozenset": _Builder.make_frozenset, "defaultdict": _Builder.make_defaultdict,
    "deque": _Builder.make_deque, "scalar": _Builder.make_scalar, "bytes": _Builder.make_bytes, "bytearray": _Builder.make_bytearray,
    "storage": _Builder.make_storage, "tensor": _Builder.make_tensor, "call": _Builder.make_call,
}  # fmt: skip
_FILLERS: Final[dict[str, Callable[[_Builder, Json, Any], bool]]] = {
    "list": _Builder.fill_list, "set": _Builder.fill_set, "deque": _Builder.fill_deque, "dict": _Builder.fill_dict,
    "counter": _Builder.fill_dict, "defaultdict": _Builder.fill_defaultdict, "odict": _Builder.fill_odict, "call": _Builder.fill_call,
}  # fmt: skip

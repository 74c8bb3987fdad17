"""What modelled globals give when a stream is built, without torch and without numpy.

The machine builds plain data by itself and asks a `Model` for the rest. This one makes real Python objects where the
standard library has them, and `TensorSpec`, `StorageSpec` and `Call` for what belongs to torch and numpy. `build.torch_tensors`
derives from it and makes the real tensors; the checks of values stand here, once, for both.
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from safeload.errors import LimitError, MalformedError, RefusedError, SafeloadError
from safeload.findings import escape
from safeload.program import Call, Global, Inert, StorageSpec, TensorSpec, metered
from safeload.walk import FETCHER, machine, values
from safeload.walk import kinds as k
from safeload.walk.array_model import ArrayAnswers
from safeload.walk.signatures import BUILD_STATE, TENSOR_DTYPES, Modelled, Signature
from safeload.walk.strided import check_strided

if TYPE_CHECKING:
    from safeload.walk import Walk

__all__ = ["COPIES", "FREE", "TYPE_KINDS", "Model", "Persistent", "Unknown", "build"]

Unknown = str
"""What becomes of a global that is not modelled: "refuse" or "inert"."""

Persistent = Callable[[Any, "Model", int], Any]
"""Takes a persistent id, the model (for `name_of`) and the offset; returns a StorageSpec, a TensorSpec or a plain value."""

TYPE_KINDS: Final[dict[type, int]] = {
    type(None): k.NONE, bool: k.BOOL, int: k.INT, float: k.FLOAT, str: k.STR, bytes: k.BYTES, bytearray: k.BYTEARRAY,
    tuple: k.TUPLE, list: k.LIST, dict: k.DICT, set: k.SET, frozenset: k.FROZENSET, complex: k.COMPLEX,
    collections.OrderedDict: k.ODICT, collections.Counter: k.COUNTER, collections.defaultdict: k.DEFAULTDICT,
    collections.deque: k.DEQUE, StorageSpec: k.STORAGE, TensorSpec: k.TENSOR, Inert: k.RESULT,
}  # fmt: skip

_MAPPINGS: Final = (collections.OrderedDict, collections.Counter, collections.defaultdict)

_SIZED: Final = frozenset(
    {str, bytes, bytearray, list, tuple, dict, set, frozenset, collections.OrderedDict, collections.Counter, collections.deque}
)
COPIES: Final = 16  # parts of paths, which files do share, come to about half of that
FREE: Final = 1 << 22
ALIKE: Final = 1 << 18  # values that are looked at to tell keys apart, and one more for each byte of the stream
_HASHING: Final = frozenset({k.SET, k.FROZENSET, k.ODICT, k.COUNTER, k.DEFAULTDICT})
_DEAR: Final = 8  # an item of a dict takes that much more memory and time than one of a list

Handler = Callable[["Model", tuple[Any, ...], int], Any]
Setter = Callable[["Model", Any, Any, int], Any]


class Model(ArrayAnswers):
    """Answers what the machine cannot: globals, calls, state, persistent ids.

    Args:
        walk: The finished walk of the stream to build.
        unknown: "refuse", or "inert" for `Inert` nodes in place of globals that are not modelled.
        persistent: How this file's persistent ids are understood, or None.
        grants: Real objects for globals that policy allows, by name.
    """

    handlers: ClassVar[dict[str, Handler]] = {}
    setters: ClassVar[dict[int, Setter]] = {}

    def __init__(
        self, walk: Walk, *, unknown: Unknown = "refuse", persistent: Persistent | None = None, grants: Mapping[str, Any] | None = None
    ) -> None:
        self.unknown = unknown
        self.grants = dict(grants or {})
        self._spent, self._allowed, self._compared = [0], 0, [0]
        self._spread: dict[int, int] = {}
        self._granted: dict[int, str] = {}
        self._made: dict[int, tuple[Any, Any]] = {}
        self._start(walk, persistent)

    def _start(self, walk: Walk, persistent: Persistent | None = None) -> None:
        """Turn to a stream: its globals, and its persistent ids."""
        self.walk = walk
        self.held = len(walk.walker.raw)  # bytes that everything is made of
        self._persistent = persistent
        self._known: dict[int, Modelled] = {}
        self.values = [self._value(entry[3], entry[4]) for entry in walk.walker.globals]
        at = walk.walker.by_name.get(FETCHER)
        self._names: dict[int, list[tuple[str | None, str]]] = {}  # of globals, once getattr is called
        self._fetcher = self.values[at >> 6] if at is not None else None

    # ---- globals

    def _value(self, modelled: Modelled | None, name: str) -> Any:
        if modelled is not None:
            value = self.value_of(modelled)
            self._known[id(value)] = modelled
            return value
        if name in self.grants:
            value = self.grants[name]
            self._granted[id(value)] = name
            return value
        return Inert(name)

    def value_of(self, modelled: Modelled) -> Any:
        """The object that stands for a modelled global in the data. It must be unique to the name."""
        if modelled.kind == k.SCRIPT:
            return Inert(modelled.name)
        found = values.CONSTANTS.get(modelled.name)
        return found if found is not None else Global(modelled.name)

    def name_of(self, value: Any) -> str | None:
        """The name of the modelled global that `value` is, or None."""
        modelled = self._known.get(id(value))
        return modelled.name if modelled is not None else None

    def kind_of(self, value: Any) -> int:
        """The machine's kind of a value, by its exact type."""
        kind = TYPE_KINDS.get(type(value))
        if kind is not None:
            return k.BIGINT if kind == k.INT and value.bit_length() > 63 else kind
        known = self._known.get(id(value))
        if known is not None:
            return known.kind
        if isinstance(value, Call):
            return value.kind
        return k.OBJECT if values.is_object(value) else k.STATEFUL if _is_uuid(value) else k.UNKNOWN

    # ---- what the machine asks

    def call(self, op: str, callee: Any, args: Any, kwargs: Any, at: int) -> Any:
        """REDUCE, NEWOBJ, NEWOBJ_EX, INST, OBJ."""
        modelled = self._known.get(id(callee))
        if modelled is not None and not kwargs and type(args) is tuple:
            signatures = modelled.newobj if op == "NEWOBJ" else () if op == "NEWOBJ_EX" else modelled.reduce
            fits = False
            for signature in signatures:  # not any(): a generator for each call takes as long as most calls
                if self.fits(signature, args):
                    fits = True
                    break
            if fits:
                if modelled.kind == k.SCRIPT:
                    return Inert(modelled.name, args=args, via=op)
                try:
                    self.spend(sum(map(_length, args)) * (_DEAR if modelled.result in _HASHING else 1))
                    made = self.handlers[modelled.name](self, args, at)
                    if modelled.result in _HASHING:
                        self.gathered(made)
                except SafeloadError as error:
                    raise error.at(f"@{at}") from None
                except (ValueError, TypeError, OverflowError, ArithmeticError, LookupError) as error:
                    self.malformed(f"{modelled.name}: {escape(str(error))}", at)
                return made
        if id(callee) in self._granted:
            return self.call_granted(op, callee, args, kwargs, at)
        if callee is self._fetcher and op == "REDUCE" and type(args) is tuple and len(args) == 2 and type(args[1]) is str:
            fetched = self._fetch(*args)
            if fetched is not None:
                return fetched
        return self._inert_call(op, callee, modelled, args, kwargs, at)

    def spend(self, amount: int) -> None:
        """Count what a call goes through or copies: by the memo, a stream has as many copies of one value as it has calls.

        Args:
            amount: Items, characters, bytes or elements.

        Raises:
            LimitError: it is far more than what the file itself holds.
        """
        self._spent[0] += amount
        if self._spent[0] > self._allowed:
            self._allowed = FREE + COPIES * (self.held + self.stored())
            if self._spent[0] > self._allowed:
                raise LimitError(f"the calls in the stream copy more than {COPIES} times what is in it").under("SL127")

    def spread(self, keys: Any) -> None:
        """Look whether keys, or members of a set, have the same hash: then finding one means comparing it with all.

        Text is hashed with a number that no file knows; a tuple of numbers is not. Called each time that there are 16 more of them.

        Raises:
            LimitError: many of them have.
        """
        count = len(keys)
        if count < values.MANY or self._spread.get(id(keys), 0) <= count < 2 * self._spread.get(id(keys), 0):
            return
        self._spread[id(keys)] = count
        self.gathered(keys)

    def gathered(self, keys: Any) -> None:
        """As `spread`, for keys that are all there.

        Raises:
            LimitError: many of them have the same hash.
        """
        self.compare(values.check_hashes(keys))

    def compare(self, amount: int) -> None:
        """Count what is looked at to tell keys apart, in all containers together.

        Args:
            amount: Values.

        Raises:
            LimitError: it is far more than there is in the stream.
        """
        self._compared[0] += amount
        if self._compared[0] > ALIKE + len(self.walk.walker.raw):
            raise LimitError("keys that the file chose so that telling them apart takes long").under("SL127")

    def stored(self) -> int:
        """Bytes of the storages, as far as values are made of them."""
        return 0

    def _fetch(self, owner: Any, step: str) -> Any:
        """The value of a nested class or method, which the walk took for a global of a dotted name; None where it did not."""
        walker = self.walk.walker
        if not self._names:
            for value, entry in zip(self.values, walker.globals, strict=True):
                self._names.setdefault(id(value), []).append(entry[:2])
        for module, attribute in self._names.get(id(owner), ()):
            at = walker.by_name.get((module, f"{attribute}.{step}"))
            if at is not None:
                return self.values[at >> 6]
        return None

    def _inert_call(self, op: str, callee: Any, modelled: Modelled | None, args: Any, kwargs: Any, at: int) -> Inert:
        if self.unknown != "inert":
            if not modelled and not isinstance(callee, Inert):
                message = f"{op} of an object of {escape(type(callee).__name__)}; only classes and functions are called"
                raise RefusedError(message, where=f"@{at}").under("SL104")
            name = modelled.name if modelled else callee.global_name
            raise RefusedError(f"{op} of {escape(name)} is not modelled", where=f"@{at}", globals=(name,)).under("SL104")
        name = modelled.name if modelled else callee.global_name if isinstance(callee, Inert) else f"<{type(callee).__name__}>"
        if isinstance(callee, Inert) and callee.args is not None:
            name = f"{name}(…)"
        given = args if type(args) is tuple else (args,)
        named = dict(kwargs) if type(kwargs) is dict and all(type(key) is str for key in kwargs) else {}
        return Inert(name, args=given, kwargs=named, via=op)

    def call_granted(self, op: str, callee: Any, args: Any, kwargs: Any, at: int) -> Any:
        """A call of a class that policy allows; only a build that may import has any."""
        raise RefusedError("classes that policy allows are built by safeload.load only", where=f"@{at}").under("SL103")

    def fits(self, signature: Signature, args: tuple[Any, ...]) -> bool:
        """The same test as in the walk, on values."""
        accepted = signature.kinds
        if len(args) < signature.required or (len(args) > len(accepted) and not signature.rest):
            return False
        for index, value in enumerate(args):
            bits = accepted[index] if index < len(accepted) else signature.rest
            if not bits >> self.kind_of(value) & 1:
                return False
        if not signature.texts:
            return True
        return all(index >= len(args) or accepts(args[index]) for index, accepts in signature.texts)

    def build(self, target: Any, state: Any, at: int) -> Any:
        """BUILD."""
        if isinstance(target, Inert):
            target.state = state if target.state is None else (target.state, state)
            return target
        if self.is_granted(target):
            return self.build_granted(target, state, at)
        kind = self.kind_of(target)
        rule = BUILD_STATE.get(kind)
        if rule is None or not rule[0] >> self.kind_of(state) & 1:
            self.malformed(f"BUILD gives a {type(state).__name__} as state to a {type(target).__name__}", at, "SL105")
        if kind == k.ODICT:
            if set(state) - {"_metadata"}:
                self.malformed("BUILD sets attributes on an OrderedDict", at, "SL105")
            target.__dict__.update(state)
            return target
        try:
            return self.set_state(target, state, at)
        except SafeloadError as error:
            raise error.at(f"@{at}") from None
        except (ValueError, TypeError, OverflowError, LookupError) as error:
            self.malformed(f"BUILD: {escape(str(error))}", at)

    def is_granted(self, target: Any) -> bool:
        """Whether `target` is an instance of a class that policy allows."""
        return False

    def build_granted(self, target: Any, state: Any, at: int) -> Any:
        """BUILD of an instance of a class that policy allows."""
        raise RefusedError("classes that policy allows are built by safeload.load only", where=f"@{at}").under("SL103")

    def set_state(self, target: Any, state: Any, at: int) -> Any:
        """BUILD of a modelled object that is not plain data."""
        if _is_uuid(target):
            return values.set_uuid(target, state)
        kind = self.kind_of(target)
        if kind in (k.TENSOR, k.EMPTY_TENSOR):
            return self.legacy_state(target, state, at)
        setter = self.setters.get(kind)
        if setter is not None:
            return setter(self, target, state, at)
        return self.malformed(f"BUILD of a {type(target).__name__}", at, "SL105")

    def stateful_name(self, target: Any) -> str:
        """The name of the global that a value that waits for its state was made by."""
        return str(target.global_name)

    def fill_stateful(self, target: Any, name: str, state: Any) -> None:
        """Give a value its checked state, once."""
        if target.state is not None:
            raise MalformedError("state is given twice").under("SL105")
        target.state = state

    def legacy_state(self, target: Any, state: tuple[Any, ...], at: int) -> Any:
        """Tensors of old releases: an empty one is told its storage, offset, size and stride; a Parameter its flags."""
        name = self.empty_of(target)
        if name is not None and len(state) == 4 and self.kind_of(state[0]) == k.STORAGE:
            storage, offset, size, stride = state
            dtype = self.storage_of(storage).dtype if name == "torch.Tensor" else TENSOR_DTYPES[name]
            return self.fill_tensor(target, self.strided(storage, offset, size, stride, dtype, name))
        flags = (state[3], state[4], state[2]) if len(state) == 5 else state
        if len(flags) == 3 and self.is_parameter(target) and type(flags[0]) is bool and type(flags[1]) is bool and not flags[2]:
            data = state[0] if len(state) == 5 else None
            if data is None or self.kind_of(data) == k.TENSOR:
                return self.fill_parameter(target, data, requires_grad=flags[0])
        return self.malformed("a tensor's state that is not (storage, offset, size, stride)", at, "SL105")

    def empty_of(self, target: Any) -> str | None:
        """The class name of an empty tensor that waits for its storage, else None."""
        return target.global_name if isinstance(target, Call) and target.kind == k.EMPTY_TENSOR else None

    def fill_tensor(self, target: Any, tensor: Any) -> Any:
        """Let an empty tensor be `tensor`; it stays the same object, because the memo holds it."""
        target.global_name, target.args, target.kind = "torch._utils._rebuild_tensor", (tensor,), k.TENSOR
        return target

    def is_parameter(self, target: Any) -> bool:
        """Whether a tensor value is a Parameter."""
        return isinstance(target, Call) and target.global_name == "torch.nn.parameter.Parameter"

    def fill_parameter(self, target: Any, data: Any, *, requires_grad: bool) -> Any:
        """Give an old Parameter its flag, and its data where they come late."""
        target.args = (target.args[0] if data is None else data, requires_grad)
        return target

    def extend(self, target: Any, items: list[Any], name: str, at: int) -> None:
        """APPEND(S) and ADDITEMS on what is not exactly a list or a set."""
        if isinstance(target, Inert):
            target.items.extend(items)
        elif type(target) is list or (type(target) is collections.deque and name != "ADDITEMS"):
            target.extend(items)
        elif self.is_granted(target):
            self.extend_granted(target, items, at)
        else:
            self.malformed(f"{name} on a {type(target).__name__}", at, "SL105")

    def extend_granted(self, target: Any, items: list[Any], at: int) -> None:
        """APPENDS on an instance of a class that policy allows."""
        raise RefusedError("classes that policy allows are built by safeload.load only", where=f"@{at}").under("SL103")

    def set_items(self, target: Any, items: list[Any], name: str, at: int) -> None:
        """SETITEM(S) on what is not exactly a dict."""
        pairs = zip(items[::2], items[1::2], strict=True)
        if isinstance(target, Inert):
            target.items.extend(pairs)
        elif type(target) in _MAPPINGS:
            for key, value in pairs:
                if type(key) in (str, bytes) and len(key) > values.LONG_KEY:
                    self.compare(len(key) >> 6)
                target[key] = value
                if not len(target) & 15:
                    self.spread(target)
        elif self.is_granted(target):
            self.set_items_granted(target, list(pairs), at)
        else:
            self.malformed(f"{name} on a {type(target).__name__}", at, "SL105")

    def set_items_granted(self, target: Any, pairs: list[tuple[Any, Any]], at: int) -> None:
        """SETITEMS on an instance of a class that policy allows."""
        raise RefusedError("classes that policy allows are built by safeload.load only", where=f"@{at}").under("SL103")

    def persistent(self, pid: Any, at: int) -> Any:
        """PERSID, BINPERSID."""
        if self._persistent is None:
            if self.unknown == "inert":
                return Inert("<a persistent id>", args=(pid,), via="PERSID")
            self.malformed("a persistent id, and nothing that gives it a meaning", at, "SL109")
        try:
            found = self._persistent(pid, self, at)
        except SafeloadError as error:
            raise error.at(f"@{at}") from None
        if isinstance(found, (StorageSpec, TensorSpec)):
            return self.made(found)
        return found

    def made(self, spec: StorageSpec | TensorSpec) -> Any:
        """The value for a spec, one and the same for the same spec."""
        known = self._made.get(id(spec))
        if known is None:
            known = (spec, self.make_storage(spec) if isinstance(spec, StorageSpec) else self.make_tensor(spec))
            self._made[id(spec)] = known
        return known[1]

    def malformed(self, message: str, at: int, rule: str = "SL303") -> NoReturn:
        """Raise for a value that breaks a rule."""
        raise MalformedError(message, where=f"@{at}").under(rule)

    # ---- what a torch build makes real

    def make_storage(self, spec: StorageSpec) -> Any:
        """The value for a storage."""
        return spec

    def make_tensor(self, spec: TensorSpec) -> Any:
        """The value for a checked, dense tensor."""
        return spec

    def make(self, name: str, args: tuple[Any, ...], kind: int) -> Any:
        """The value for any other modelled call, its arguments checked."""
        return Call(name, args, kind)

    def nested(self, walk: Walk) -> Any:
        """The object of a stream inside this one, which knows nothing of its storages."""
        import copy

        inner = copy.copy(self)  # what was made so far, and what policy allows, is the same for both
        inner._start(walk)  # noqa: SLF001 — one of us
        return build(walk, inner)

    def storage_of(self, value: Any) -> StorageSpec:
        """The spec behind a storage value."""
        if isinstance(value, StorageSpec):
            return value
        raise MalformedError("not a storage of this file").under("SL303")

    def make_subclass(self, base: Any, kind: Any, state: Any, at: int) -> Any:
        """A tensor of a class that policy allows; only a build that may import has any."""
        raise RefusedError("classes that policy allows are built by safeload.load only", where=f"@{at}").under("SL103")

    def is_granted_class(self, value: Any) -> bool:
        """Whether `value` is a global that policy allows."""
        return id(value) in self._granted

    def inert(self, op: str, callee: Any, args: Any, at: int) -> Inert:
        """The node for a call that is not made; refused unless inert nodes were asked for."""
        return self._inert_call(op, callee, self._known.get(id(callee)), args, {}, at)

    def strided(
        self,
        storage: Any,
        offset: Any,
        size: Any,
        stride: Any,
        dtype: str,
        name: str,
        *,
        requires_grad: bool = False,
        conj: bool = False,
        neg: bool = False,
    ) -> Any:
        """Check a dense tensor against its storage, and make it."""
        spec = self.storage_of(storage)
        shape, strides = check_strided(spec, offset, size, stride, dtype)
        if requires_grad and not dtype.startswith(("float", "bfloat", "complex", "bcomplex")):
            raise MalformedError(f"a tensor of {dtype} that requires a gradient; only floating point and complex ones can").under("SL303")
        return self.make_tensor(TensorSpec(spec, dtype, shape, strides, offset, requires_grad, conj, neg, name))

    def numel_of(self, value: Any) -> int:
        """Elements of a tensor value."""
        while isinstance(value, Call) and value.args:
            value = value.args[0]
        if isinstance(value, TensorSpec):
            return value.numel
        raise MalformedError("not a dense tensor").under("SL303")

    def layout_of(self, value: Any) -> str:
        """torch's name of a layout value ("torch.sparse_coo")."""
        if isinstance(value, Call) and value.kind == k.LAYOUT:
            return str(value.args[0])
        raise MalformedError("not a layout").under("SL303")

    def dtype_of(self, value: Any) -> str:
        """torch's name of a dtype value ("float32")."""
        name = self.name_of(value)
        if name is None:
            raise MalformedError("not a dtype").under("SL303")
        return name.removeprefix("torch.")


def _length(value: Any) -> int:
    """How much a call may have to copy of an argument."""
    if type(value) in _SIZED:
        return len(value)
    return value.bit_length() >> 3 if type(value) is int else 0


def _is_uuid(value: Any) -> bool:
    """Whether a value is exactly a UUID; the module is there if one was made."""
    return type(value) is getattr(sys.modules.get("uuid"), "UUID", None)


def build(
    walk: Walk,
    model: Model,
    *,
    made: Mapping[int, Any] | None = None,
    ends: Mapping[int, int] | None = None,
    taken: set[int] | None = None,
) -> Any:
    """Build the object of a finished walk.

    Args:
        walk: The walk.
        model: Answers what the machine cannot.
        made: Tensors of `Walker.plain_tensors` that were made before, by the offsets that it gives.
        ends: As it gives them.
        taken: The offsets of the persistent ids of their storages: the model is not asked for these.

    Raises:
        RefusedError: something that is not modelled is called, and `unknown` is "refuse".
        MalformedError: the stream or a value in it breaks a rule; `where` is "@offset".
        LimitError: it does not fit in memory.
    """
    try:
        with metered(model.compare):
            found = machine.Builder(walk.walker, model.values, model, made, ends, taken).run()
        model.compare(0)  # a comparison that was given up says "not equal"
    except machine.Malformed as error:
        message, at, *_ = error.args
        raise MalformedError(message, where=f"@{at}").under("SL129") from None
    except SafeloadError:
        raise
    except RecursionError as error:
        raise LimitError("values nested deeper than Python goes").under("SL127") from error
    except (TypeError, ValueError, ArithmeticError, LookupError, SystemError) as error:
        # A key that only its value shows to be none, or that cannot be compared with another one (an array's element, a tuple).
        # A deque without memory is a SystemError.
        raise MalformedError(f"a key that cannot be hashed or compared: {escape(str(error))}").under("SL303") from error
    return found



_BASES: Final = frozenset({"object", "list", "tuple", "set", "frozenset", "dict", "int", "float", "str", "bytes"})


def _reconstructor(model: Model, args: tuple[Any, ...], at: int) -> Any:
    """`copyreg._reconstructor(class, base, state)`: the class decides; what it derives from is one of a few plain types."""
    cls, base, state = args
    if model.kind_of(cls) == k.ARRAY_CLASS:
        return Call("joblib.numpy_pickle.NumpyArrayWrapper", (), k.ARRAY_WRAPPER)
    name = (model.name_of(base) or "").removeprefix("builtins.")
    if name not in _BASES or (name == "object" and state is not None):
        raise MalformedError(f"an object that is made as {escape(name)}").under("SL104")
    if name == "object" and model.name_of(cls) is not None:
        return model.call("NEWOBJ", cls, (), {}, at)
    plain = () if name == "object" else (base, state)
    if model.is_granted_class(cls):
        return model.call_granted("RECONSTRUCT", cls, plain, {}, at)
    return model.inert("NEWOBJ", cls, plain[1:], at)


def _first(model: Model, args: tuple[Any, ...], at: int) -> Any:
    return args[0]


_SCRIPT: Final = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")

# Last, because the types of the handlers name Model.
from safeload.walk import arrays, generators, torch_calls  # noqa: E402

Model.handlers = {
    **values.HANDLERS, **torch_calls.HANDLERS, **arrays.HANDLERS, **generators.HANDLERS,
    "copyreg._reconstructor": _reconstructor,
    **{f"torch.jit._pickle.{name}": _first for name in _SCRIPT},
}  # fmt: skip
Model.setters = {**arrays.SETTERS, k.NPRNG: generators.set_generator, k.STATEFUL: torch_calls.set_stateful}

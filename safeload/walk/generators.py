"""numpy's random generators as a stream describes them: their states are plain numbers, checked without numpy.

numpy sets most of these numbers without a look, and then indexes with some of them (a position of 700 in a key of 624 words
reads beyond it). So every one has its bound here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from safeload.errors import MalformedError
from safeload.findings import shown
from safeload.walk import kinds as k

if TYPE_CHECKING:
    from safeload.walk.model import Model

__all__ = ["BIT_GENERATORS", "CLASSES", "CONSTRUCTORS", "HANDLERS", "set_generator"]

CLASSES: Final[dict[str, str]] = {
    "numpy.random._mt19937.MT19937": "MT19937", "numpy.random._pcg64.PCG64": "PCG64", "numpy.random._pcg64.PCG64DXSM": "PCG64DXSM",
    "numpy.random._philox.Philox": "Philox", "numpy.random._sfc64.SFC64": "SFC64",
}  # fmt: skip
"""Classes of bit generators by the names that pickles use."""

BIT_GENERATORS: Final = frozenset(CLASSES.values())
SEED_CLASS: Final = "numpy.random.bit_generator.SeedSequence"
SEED_CONSTRUCTOR: Final = "numpy.random.bit_generator.__pyx_unpickle_SeedSequence"
CONSTRUCTORS: Final[dict[str, str]] = {
    "numpy.random._pickle.__bit_generator_ctor": "BitGenerator",
    "numpy.random._pickle.__generator_ctor": "Generator",
    "numpy.random._pickle.__randomstate_ctor": "RandomState",
    "numpy.random.__RandomState_ctor": "RandomState",
    "numpy.random.mtrand.__RandomState_ctor": "RandomState",
}
"""Functions that pickles call for a generator, and what they make."""

_WORD: Final = 1 << 32
_SEED_BITS: Final = 1 << 16
_POOL: Final = 1024
MADE: Final = 1024
"""What a generator counts for in `Model.spend`: it is seeded, and has as many words of state, before the stream gives it another."""

_Field = Callable[["Model", Any], bool]


def _below(limit: int) -> _Field:
    return lambda model, value: type(value) is int and 0 <= value < limit


def _words(text: str, count: int) -> _Field:
    def check(model: Model, value: Any) -> bool:
        if type(value) in (list, tuple):  # some releases write the counter as plain numbers
            bits = 8 * int(text[-1])
            return len(value) == count and all(type(item) is int and 0 <= item < 1 << bits for item in value)
        return model.kind_of(value) == k.NPARRAY and model.array_facts(value) == (text, (count,))

    return check


def _number(model: Model, value: Any) -> bool:
    return type(value) in (int, float)


_SPARE: Final[dict[str, _Field]] = {"has_uint32": _below(2), "uinteger": _below(_WORD)}
_PCG: Final[dict[str, _Field]] = {"state": _below(1 << 128), "inc": _below(1 << 128)}
_INNER: Final[dict[str, dict[str, _Field]]] = {
    "MT19937": {"key": _words("u4", 624), "pos": _below(625)},
    "PCG64": _PCG,
    "PCG64DXSM": _PCG,
    "Philox": {"counter": _words("u8", 4), "key": _words("u8", 2)},
    "SFC64": {"state": _words("u8", 4)},
}
_OUTER: Final[dict[str, dict[str, _Field]]] = {
    "MT19937": {},
    "PCG64": _SPARE,
    "PCG64DXSM": _SPARE,
    "Philox": {"buffer": _words("u8", 4), "buffer_pos": _below(5), **_SPARE},
    "SFC64": _SPARE,
}


def _bad(message: str) -> MalformedError:
    return MalformedError(message).under("SL303")


def check_state(model: Model, state: Any, expected: str | None = None, *, legacy: bool = False) -> str:
    """Check the state of a bit generator, or of a RandomState (`legacy`), and return the bit generator's name.

    Raises:
        MalformedError: a number is missing, unknown, or out of its bounds.
    """
    name = state.get("bit_generator") if type(state) is dict else None
    if type(name) is not str or name not in BIT_GENERATORS or (expected is not None and name != expected):
        raise _bad(f"the state of a bit generator named {shown(name, 40)}")
    outer: dict[str, _Field] = dict(_OUTER[name])
    if legacy or ("has_gauss" in state and name == "MT19937"):
        outer |= {"has_gauss": _below(2), "gauss": _number}
    rest = {key: value for key, value in state.items() if key not in ("bit_generator", "state")}
    for fields, found in ((_INNER[name], state.get("state")), (outer, rest)):
        if type(found) is not dict or set(found) != set(fields):
            raise _bad(f"the state of a {name} does not have the numbers that it needs")
        for key, accepts in fields.items():
            if not accepts(model, found[key]):
                raise _bad(f"the state of a {name}: {key} is out of its bounds")
    return str(name)


def _check_tuple(model: Model, state: tuple[Any, ...]) -> dict[str, Any]:
    """The oldest form of a RandomState: ("MT19937", key, position[, has_gauss, gauss])."""
    if len(state) not in (3, 5):
        raise _bad("the state of a RandomState that is not (name, key, position, has_gauss, gauss)")
    gauss = state[3:] or (0, 0.0)
    found = {"bit_generator": state[0], "state": {"key": state[1], "pos": state[2]}, "has_gauss": gauss[0], "gauss": gauss[1]}
    check_state(model, found, "MT19937", legacy=True)
    return found


def _construct(what: str) -> Callable[[Model, tuple[Any, ...], int], Any]:
    def handler(model: Model, args: tuple[Any, ...], at: int) -> Any:
        model.spend(MADE)
        first = args[0] if args else "MT19937"
        if len(args) == 2 and model.name_of(args[1]) != "numpy.random._pickle.__bit_generator_ctor":
            raise _bad("a generator made by another constructor than numpy's")
        if type(first) is str:
            name: Any = first
        elif model.kind_of(first) == k.NPRNG:
            if what == "BitGenerator" or model.generator_of(first)[0] != "BitGenerator":
                raise _bad("a generator made of what is no bit generator")
            return model.make(f"numpy.random.{what}", (first,), k.NPRNG)
        else:
            name = CLASSES.get(model.name_of(first) or "")
        if name not in BIT_GENERATORS:
            raise _bad(f"a bit generator named {shown(first, 40)}")
        return model.make(f"numpy.random.{what}", (name,), k.NPRNG)

    return handler


def _seed(model: Model, args: tuple[Any, ...], at: int) -> Any:
    if model.name_of(args[0]) != SEED_CLASS:
        raise _bad("a seed sequence of another class than numpy's")
    made = model.make("numpy.random.SeedSequence", (), k.NPRNG)
    return set_generator(model, made, args[2], at) if args[2] is not None else made


def _check_seed(model: Model, state: Any) -> dict[str, Any]:
    """A seed sequence: (entropy, children, pool, pool size, spawn key); the pool follows from the others and is not taken."""
    if type(state) is not tuple or len(state) != 5:
        raise _bad("the state of a seed sequence that no known numpy writes")
    entropy: Any = state[0]
    _, children, _, size, key = state
    drawn = model.integer_of(entropy)
    if drawn is not None:
        entropy = drawn  # scikit-learn draws it with numpy; as a plain number it means the same
    model.spend(sum(len(part) for part in (entropy, key) if type(part) in (list, tuple)))
    numbers = list(entropy) if type(entropy) in (list, tuple) else [entropy]
    spawned = list(key) if type(key) in (list, tuple) else [None]
    small = all(type(number) is int and number >= 0 for number in [*numbers, *spawned])
    bits = sum(number.bit_length() + 32 for number in [*numbers, *spawned]) if small else 0
    sized = type(size) is int and 4 <= size <= _POOL and len(numbers) + len(spawned) <= _POOL
    if not small or not sized or bits > _SEED_BITS or not _below(_WORD)(model, children):
        raise _bad("a seed sequence whose numbers are out of their bounds")
    model.spend(bits // 32 * size // 16)  # each word of the entropy is mixed with the whole pool
    return {"entropy": entropy, "n_children_spawned": children, "pool_size": size, "spawn_key": tuple(key)}


def _is_seed(model: Model, value: Any) -> bool:
    return model.kind_of(value) == k.NPRNG and model.generator_of(value)[0] == "SeedSequence"


def set_generator(model: Model, target: Any, state: Any, at: int) -> Any:
    """BUILD of a bit generator, generator, random state or seed sequence."""
    what, name = model.generator_of(target)
    if what == "SeedSequence":
        model.set_generator_state(target, _check_seed(model, state), None)
        return target
    seed = None
    if what == "BitGenerator" and type(state) is tuple:
        if len(state) != 2 or not (state[1] is None or _is_seed(model, state[1])):
            raise _bad("the state of a bit generator that is not (numbers, seed sequence)")
        state, seed = state
    if what == "RandomState" and type(state) is tuple:
        state = _check_tuple(model, state)
    check_state(model, state, name, legacy=what == "RandomState")
    model.set_generator_state(target, state, seed)
    return target


HANDLERS: Final[dict[str, Callable[[Model, tuple[Any, ...], int], Any]]] = {
    **{name: _construct(what) for name, what in CONSTRUCTORS.items()},
    SEED_CONSTRUCTOR: _seed,
}

"""Frozen facts that cost nothing to define: `dataclass` as in the standard library, made when it is first used.

The standard `dataclass` compiles four to six functions for each class while a module is imported, and imports `inspect` for it. A
command that looks at one small file would spend more time on that than on the file and on Python's own start together.
Here a class is taken apart when it is defined and its `__init__` compiled when its first instance is made; equality,
hash, repr and pickling are shared by all classes. `dataclasses.fields`, `replace` and `asdict` know these classes, and a
standard dataclass may derive from one. Type checkers see the standard decorator.

What is taken: `frozen`, `slots`, `kw_only`, `eq`, `order`; `field` with a default or a factory, `compare` and `repr`. For anything else
there is the standard decorator.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace
else:
    import operator

    _MISSING = object()

    class _Field:
        """A default that `field` described."""

        __slots__ = ("compare", "default", "factory", "kw_only", "repr")

        def __init__(self, default, factory=_MISSING, compare=True, shown=True):
            self.default, self.factory, self.compare, self.repr = default, factory, compare, shown

    def field(*, default=_MISSING, default_factory=_MISSING, compare=True, repr=True):  # noqa: A002 — its name there
        """As `dataclasses.field`, for a default or a factory."""
        return _Field(default, default_factory, compare, repr)

    def dataclass(cls=None, /, *, frozen=False, slots=False, kw_only=False, eq=True, order=False):
        """As `dataclasses.dataclass`."""

        def decorate(cls):
            return _made(cls, frozen=frozen, slots=slots, kw_only=kw_only, eq=eq, order=order)

        return decorate if cls is None else decorate(cls)

    def replace(instance, /, **changes):
        """As `dataclasses.replace`."""
        cls = type(instance)
        for name in cls.__match_names__:
            if name not in changes:
                changes[name] = getattr(instance, name)
        return cls(**changes)

    def _made(cls, *, frozen, slots, kw_only, eq, order):
        """Take a class apart and put it together again."""
        fields = {}  # name → _Field, those of bases first, as the standard decorator orders them
        for base in reversed(cls.__mro__[1:]):
            fields.update(base.__dict__.get("__lean_fields__", ()))
        own = [name for name, kind in cls.__annotations__.items() if not str(kind).startswith(("ClassVar", "typing.ClassVar"))]
        body = {name: value for name, value in cls.__dict__.items() if name not in ("__dict__", "__weakref__")}
        for name in own:
            given = body.pop(name, _MISSING)
            described = given if isinstance(given, _Field) else _Field(given)
            described.kw_only = kw_only
            if described.default.__class__ in (list, dict, set):
                raise ValueError(f"mutable default of {name}: use a factory")
            fields[name] = described
            if not slots and described.default is not _MISSING:
                body[name] = described.default
        body["__lean_fields__"] = fields
        body["__match_names__"] = names = tuple(fields)
        body.setdefault("__match_args__", tuple(name for name in names if not fields[name].kw_only))
        body["__dataclass_fields__"] = _Lazily(_standard_fields)
        body["__dataclass_params__"] = _Lazily(_standard_params)
        body["__signature__"] = _Lazily(_signature)
        body["__lean_flags__"] = frozen, eq
        body.setdefault("__repr__", _repr)
        values = _values(tuple(name for name in names if fields[name].compare))
        if eq:
            body.setdefault("__eq__", _equality(values))
            if "__hash__" not in cls.__dict__ or cls.__dict__["__hash__"] is None:
                body["__hash__"] = (lambda self: hash(values(self))) if frozen else None
        if order:
            body |= {f"__{name}__": _comparison(values, getattr(operator, name)) for name in ("lt", "le", "gt", "ge")}
        if frozen:
            body["__setattr__"], body["__delattr__"] = _frozen_set, _frozen_del
        if slots:
            held = {slot for base in cls.__mro__[1:] for slot in base.__dict__.get("__slots__", ())}
            body["__slots__"] = tuple(name for name in own if name not in held)
            if frozen:
                body.setdefault("__getstate__", _getstate)
                body.setdefault("__setstate__", _setstate)
        made = type(cls)(cls.__name__, cls.__bases__, body)
        made.__qualname__ = cls.__qualname__
        if "__init__" not in cls.__dict__:
            made.__init__ = _first_init(made)
        return made

    class _Lazily:
        """A class attribute that is made when it is asked for."""

        __slots__ = ("make",)

        def __init__(self, make):
            self.make = make

        def __get__(self, instance, owner):
            home = next(base for base in owner.__mro__ if "__lean_fields__" in base.__dict__)
            return self.make(home)

    def _first_init(made):
        def __init__(self, /, *args, **kwargs):  # noqa: N807 — it is one, until the real one is there
            made.__init__ = _compiled_init(made)
            made.__init__(self, *args, **kwargs)

        return __init__

    def _compiled_init(made):
        """Write and compile `__init__`; a slot's own setter is what a frozen class leaves open."""
        scope = {"_missing": _MISSING, "_set": object.__setattr__}
        fields = made.__lean_fields__
        lines = []
        for name, described in fields.items():
            value = name
            if described.factory is not _MISSING:
                scope[f"_make_{name}"] = described.factory
                value = f"_make_{name}() if {name} is _missing else {name}"
            elif described.default is not _MISSING:
                scope[f"_default_{name}"] = described.default
            slot = getattr(made, name, None)
            if type(slot).__name__ == "member_descriptor":
                scope[f"_set_{name}"] = slot.__set__
                lines.append(f" _set_{name}(self, {value})")
            else:
                lines.append(f" _set(self, {name!r}, {value})")
        if hasattr(made, "__post_init__"):
            lines.append(" self.__post_init__()")
        source = f"def __init__(self{_parameters(fields)}):\n" + ("\n".join(lines) or " pass")
        exec(source, scope)  # noqa: S102 — names of fields of our own classes, as the standard decorator does
        init = scope["__init__"]
        init.__qualname__ = f"{made.__qualname__}.__init__"
        return init

    def _parameters(fields):
        plain, keyword = [], []
        for name, described in fields.items():
            given = f"=_default_{name}" if described.default is not _MISSING else "=_missing" if described.factory is not _MISSING else ""
            (keyword if described.kw_only else plain).append(f", {name}{given}")
        return "".join(plain) + (", *" if keyword else "") + "".join(keyword)

    # ---- shared by all classes

    def _values(names):
        """What gives the compared fields of an instance as a tuple."""
        return operator.attrgetter(*names) if len(names) > 1 else (lambda self: tuple(getattr(self, name) for name in names))

    def _equality(values):
        def __eq__(self, other):  # noqa: N807
            return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

        return __eq__

    def _comparison(values, compare):
        return lambda self, other: compare(values(self), values(other)) if other.__class__ is self.__class__ else NotImplemented

    def _repr(self):
        inner = ", ".join(f"{name}={getattr(self, name)!r}" for name, described in self.__lean_fields__.items() if described.repr)
        return f"{type(self).__qualname__}({inner})"

    def _frozen_set(self, name, value):
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def _frozen_del(self, name):
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _getstate(self):
        return [getattr(self, name) for name in self.__match_names__]

    def _setstate(self, state):
        for name, value in zip(self.__match_names__, state, strict=True):
            object.__setattr__(self, name, value)

    # ---- for those who ask

    _STANDARD = {}

    def _standard(made):
        """The standard library's own description of the same class, made once."""
        if made in _STANDARD:
            return _STANDARD[made]
        import dataclasses

        frozen, eq = made.__lean_flags__
        shown = []
        for name, described in made.__lean_fields__.items():
            kind = next(base.__annotations__[name] for base in made.__mro__[:-1] if name in base.__annotations__)
            given = {"kw_only": described.kw_only, "compare": described.compare, "repr": described.repr}
            if described.default is not _MISSING:
                given["default"] = described.default
            if described.factory is not _MISSING:
                given["default_factory"] = described.factory
            shown.append((name, kind, dataclasses.field(**given)))
        _STANDARD[made] = dataclasses.make_dataclass(made.__name__, shown, frozen=frozen, eq=eq)
        return _STANDARD[made]

    def _standard_fields(made):
        return _standard(made).__dataclass_fields__

    def _standard_params(made):
        return _standard(made).__dataclass_params__

    def _signature(made):
        import inspect

        return inspect.signature(_standard(made))


__all__ = ["dataclass", "field", "replace"]

"""Configuration objects of well-known libraries as plain data, after an inert load. Nothing is imported for it.

Training checkpoints carry the objects that configured the run: Lightning's hyper-parameters, omegaconf containers, fairseq
dictionaries, `argparse.Namespace`. What is in them is ordinary data with a class around it. A profile says for one class
where in its pickle that data lies: in its attributes, in its items, or in one value.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from safeload.findings import Level
from safeload.program import Inert
from safeload.walk.names import know

__all__ = ["PROFILES", "is_known", "plain"]

Profile = Callable[[Inert], Any]
_NO: Final = object()
"""The node has not the form that its class is pickled in."""


def _attributes(node: Inert) -> Any:
    """The attributes as a dict."""
    state = node.state
    if state is None:
        given = (*(node.args or ()), *node.kwargs)
        if not given and not node.items and node.args is not None:
            return {}
        return node.args[0] if node.args and len(given) == 1 and type(node.args[0]) is dict else _NO
    return state if isinstance(state, Mapping) else _NO


def _items(node: Inert) -> Any:
    """What is in a subclass of dict or list, without the attributes that it has besides."""
    if node.args is None:
        return _NO
    # Below protocol 2 the data are the argument; from there on they come as items.
    first = next((arg for arg in node.args if type(arg) in (dict, list)), None)
    pairs = [item for item in node.items if type(item) is tuple and len(item) == 2]
    if len(pairs) < len(node.items) or type(first) is list:
        return [*(first or ()), *node.items]
    return {**(first or {}), **dict(pairs)}


def _fields(*names: str) -> Profile:
    """One attribute, under the first of several names that it has had."""

    def profile(node: Inert) -> Any:
        state = node.state if isinstance(node.state, Mapping) else {}
        return next((state[name] for name in names if name in state), _NO)

    return profile


def _value(node: Inert) -> Any:
    """An enum member: its value, or its name where it was pickled by name."""
    given = node.args
    return given[0] if given is not None and len(given) == 1 and node.state is None and not node.items else _NO


def _anything(node: Inert) -> Any:
    """For a class that the caller named: items when there are any, else attributes, else the one value."""
    if node.items:
        return _items(node)
    attributes = _attributes(node)
    return _value(node) if attributes is _NO else attributes


def _enum_node(node: Inert) -> Any:
    """An omegaconf node whose value is a member of an enum that only the program knows."""
    member = _inner(node)
    value = _value(member) if type(member) is Inert else _NO
    return member if value is _NO else value


def _config(node: Inert) -> Any:
    """A Config of mmcv or mmengine: since 0.8 its state is a tuple, the configuration in front."""
    state = node.state
    return state[0] if type(state) is tuple and state else _fields("_cfg_dict")(node)


_content, _inner, _field_dict = _fields("_content", "content"), _fields("_val", "val"), _fields("_fields")

PROFILES: Final[tuple[tuple[re.Pattern[str], Profile, str], ...]] = tuple(
    (re.compile(pattern), profile, what)
    for pattern, profile, what in (
        (r"argparse\.Namespace", _attributes, "attributes"),
        (r"types\.SimpleNamespace", _attributes, "attributes"),
        (r"(lightning|pytorch_lightning|lightning_fabric)(\.\w+)*\.AttributeDict", _items, "items"),
        (r"omegaconf\.(dictconfig\.DictConfig|listconfig\.ListConfig)", _content, "the content, without resolving interpolations"),
        (r"omegaconf\.nodes\.EnumNode", _enum_node, "the value"),
        (r"omegaconf\.nodes\.\w+Node", _inner, "the value"),
        (r"fairseq\.data(\.\w+)*\.\w*Dictionary", _attributes, "attributes: symbols, count, indices"),
        (r"fairseq\.dataclass(\.\w+)*\.\w+Config", _attributes, "attributes"),
        (r"fairseq\.dataclass\.constants\.\w+", _value, "the value"),
        (r"transformers(\.\w+)*\.\w+Config", _attributes, "attributes"),
        (r"transformers(\.\w+)*\.\w*TrainingArguments", _attributes, "attributes"),
        (r"transformers(\.\w+)*\.(TrainerState|TrainerControl)", _attributes, "attributes"),
        (r"transformers(\.\w+)*\.\w+(Strategy|Type|Names|Option)", _value, "the value"),
        (r"transformers(\.\w+)*\.\w+Tokenizer", _attributes, "attributes"),
        (r"(yacs|detectron2|fvcore)(\.\w+)*\.CfgNode", _items, "items"),
        (r"(mmcv|mmengine)(\.\w+)*\.ConfigDict", _items, "items"),
        (r"(mmcv|mmengine)(\.\w+)*\.Config", _config, "the configuration"),
        (r"mmengine\.logging\.history_buffer\.HistoryBuffer", _attributes, "attributes"),
        (r"accelerate\.state\.PartialState", _attributes, "attributes"),
        (r"accelerate\.utils\.dataclasses\.\w+Type", _value, "the value"),
        (r"diffusers(\.\w+)*\.FrozenDict", _items, "items"),
        (r"ml_collections(\.\w+)*\.(Frozen)?ConfigDict", _field_dict, "fields"),
        (r"(easydict\.EasyDict|addict(\.addict)?\.Dict|munch\.(Default)?Munch)", _items, "items"),
        (r"(box\.(box\.)?Box|attrdict(\.\w+)*\.AttrDict)", _items, "items"),
        (r"ultralytics(\.\w+)*\.IterableSimpleNamespace", _attributes, "attributes"),
        (r"hydra(\.\w+)*\.\w+Conf", _attributes, "attributes"),
    )
)
"""Pattern of the whole global name, how its data is taken out, and what that gives, for people."""

_CONTAINERS: Final = (dict, OrderedDict, list, Inert)
_KEYS: Final = (str, int, float, bool)
_CHAIN: Final = 100


def plain(value: Any, *, also: Iterable[str] = ()) -> Any:
    """Turn configuration objects in what an inert load gave into plain dicts, lists and values.

    Args:
        value: From `safeload.load(..., unknown="inert")`, or any part of it.
        also: Further classes whose attributes are meant, or whose items are when they have any: "module.Class".

    Returns:
        A copy in which every known object is plain data. Named tuples become tuples, enum members of known libraries their
        values. Whatever is not known stays an `Inert`, as does everything that names something dangerous. Tensors and other
        leaves are the same objects; what was shared or circular is so again.
    """
    return _Copy(frozenset(also)).of(value)


class _Copy:
    """One copy. Nothing recurses: depth is the file's to choose.

    First every mutable container gets an empty counterpart and every tuple is made from the inside out; then the counterparts
    are filled. So cycles, which always lead through something mutable, close by themselves.
    """

    def __init__(self, also: frozenset[str]) -> None:
        self.also = also
        self.made: dict[int, Any] = {}
        self.meant: dict[int, Any] = {}
        self.mutable: list[tuple[Any, Any]] = []
        self.kept: list[Any] = []  # what is made on the way, so that no identity is used twice

    def of(self, value: Any) -> Any:
        """The copy."""
        roots = [value]
        while roots:
            self._reach(roots.pop(), roots)
        for node, copy in self.mutable:
            self._fill(node, copy)
        return self._get(value)

    def _reach(self, root: Any, roots: list[Any]) -> None:
        """Make counterparts of a value and the tuples in it; what mutable containers hold goes to `roots`."""
        todo: list[tuple[Any, bool]] = [(root, False)]
        while todo:
            found, leaving = todo.pop()
            node = self._meaning(found)
            if leaving:
                self.made[id(node)] = tuple(map(self._get, node))
            elif id(node) not in self.made:
                if type(node) is tuple:
                    self.made[id(node)] = node
                    todo.append((node, True))
                    todo.extend((part, False) for part in node)
                elif type(node) in _CONTAINERS:
                    copy = Inert(node.global_name, via=node.via) if type(node) is Inert else type(node)()
                    self.made[id(node)] = copy
                    self.mutable.append((node, copy))
                    roots.extend(_parts(node))

    def _fill(self, node: Any, copy: Any) -> None:
        if type(node) is list:
            copy.extend(map(self._get, node))
        elif isinstance(node, Inert):
            copy.args, copy.state = self._get(node.args), self._get(node.state)
            copy.kwargs = {key: self._get(item) for key, item in node.kwargs.items()}
            copy.items = [self._get(item) for item in node.items]
        else:
            keys = [meant if type(meant := self._meaning(key)) in _KEYS else key for key in node]
            # Two keys that would become one stay what they were.
            names = keys if len(set(keys)) == len(node) else list(node)
            for key, item in zip(names, node.values(), strict=True):
                copy[key] = self._get(item)
            if type(node) is OrderedDict:
                vars(copy).update(vars(node))

    def _get(self, value: Any) -> Any:
        meant = self._meaning(value)
        return self.made.get(id(meant), meant)

    def _meaning(self, value: Any) -> Any:
        """What a value stands for: itself, or the data inside a known object, however often that is wrapped."""
        if type(value) is not Inert:
            return value
        if id(value) not in self.meant:
            meant: Any = value
            for _ in range(_CHAIN):
                inner = _unwrap(meant, self.also) if type(meant) is Inert else _NO
                if inner is _NO:
                    break
                meant = inner
            else:
                meant = value  # it wraps itself
            self.meant[id(value)] = meant
            self.kept += (value, meant)
        return self.meant[id(value)]


def _parts(node: Any) -> list[Any]:
    """What a mutable container holds."""
    if isinstance(node, Inert):
        return [node.args, node.state, *node.kwargs.values(), *node.items]
    return list(node.values()) if isinstance(node, dict) else list(node)


def is_known(name: str) -> bool:
    """Whether `plain` knows the class of this name."""
    return any(pattern.fullmatch(name) for pattern, _, _ in PROFILES)


def _unwrap(node: Inert, also: frozenset[str]) -> Any:
    """The data in a known object, one layer; `_NO` when it is not known."""
    name = node.global_name
    if node.args is None:
        return _NO
    if name in also:
        return _NO if _is_dangerous(name) else _anything(node)
    for pattern, profile, _ in PROFILES:
        if pattern.fullmatch(name):
            return _NO if _is_dangerous(name) else profile(node)
    if name == "builtins.getattr" and len(node.args) == 2 and type(node.args[1]) is str and type(node.args[0]) is Inert:
        # Below protocol 4, and in some Python releases, an enum member is pickled as getattr(Class, "MEMBER").
        known = any(profile is _value and pattern.fullmatch(node.args[0].global_name) for pattern, profile, _ in PROFILES)
        return node.args[1] if known or node.args[0].global_name in also else _NO
    if node.via == "NEWOBJ" and node.state is None and not node.items and not node.kwargs:
        # A class that is made of positional values and nothing else: a named tuple. Below protocol 2 they are one argument.
        given = node.args[0] if len(node.args) == 1 and type(node.args[0]) is tuple else node.args
        return _NO if len(given) < 2 or _is_dangerous(name) else given
    return _NO


def _is_dangerous(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    return know(module, attribute).level is Level.ERROR

"""Keras' configurations: JSON that says which objects to make, of which classes, with which arguments.

Keras makes every object that a configuration names while it loads, before anybody asked for a prediction. What older versions
took (any module, any function, marshalled code whatever `safe_mode` said) is what a file can rely on, because nobody knows here
which version will read it. Advisories: CVE-2024-3660, CVE-2025-1550, CVE-2025-8747, CVE-2025-9905, CVE-2025-9906, CVE-2025-12058,
CVE-2025-12060, CVE-2025-49655.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from safeload.errors import MalformedError, SafeloadError
from safeload.findings import Finding, Level, escape
from safeload.formats.base import StreamPart
from safeload.formats.container import Notes
from safeload.formats.json_tree import parse_json
from safeload.formats.keras_names import Verdict, judge_class, judge_function, judge_operation, judge_symbol
from safeload.lean_dataclass import dataclass, field, replace
from safeload.source import Reading

__all__ = ["Checked", "check_config", "check_root", "decoded", "looks_like_config"]

CONFIG_BYTES: Final = 64 << 20
_NODES: Final = 2_000_000
_CLASSES: Final = 100
_OBJECT: Final = re.compile(rb'"class_name"|\\u00[0-7]')
_DATA: Final = frozenset(
    {"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__tuple__", "TypeSpec", "CompositeTensor",
     "TensorShape", "TrackedDict", "Ellipsis"}
)  # fmt: skip
_LOOKUPS: Final = frozenset({"StringLookup", "IntegerLookup", "IndexLookup", "TextVectorization"})
_CALLABLES: Final = ("function", "output_shape", "mask")
_SYMBOLS: Final = frozenset({"TFOpLambda", "SlicingOpLambda"})
_METHODS: Final = {"ClassMethod": ("cls_symbol", "method_name"), "InstanceMethod": ("method_name",), "InstanceProperty": ("attr_name",)}
_WRAPPERS: Final = frozenset({"JaxLayer", "FlaxLayer"})
_ATTRIBUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*)*\Z")


@dataclass(slots=True)
class Checked:
    """What a configuration says.

    Attributes:
        findings: Without a member, which the caller knows.
        parts: Streams in it (a torch module that was pickled into it).
        metadata: The model's class, how many objects there are, and of which classes.
        error: Why it could not be read, or None.
    """

    findings: list[Finding] = field(default_factory=list)
    parts: list[StreamPart] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    error: str | None = None


def decoded(data: bytes | memoryview) -> bytes:
    """Return JSON as UTF-8. `json.loads` takes UTF-16 and UTF-32, too, and Keras gives it bytes.

    Raises:
        MalformedError: it is none of them.
    """
    raw = bytes(data)
    encoding = json.detect_encoding(raw)
    if encoding.startswith("utf-8"):
        return raw
    try:
        return raw.decode(encoding).encode()
    except UnicodeError:
        raise MalformedError(f"the configuration is not {encoding.upper()}") from None


def looks_like_config(data: bytes) -> bool:
    """Whether a text is an object that names a class, or could be one with its letters written as escapes."""
    head = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n\0\xff\xfe")
    return head[:1] in (b"{", b"[") and (_OBJECT.search(data) is not None or b"\0" in head)


def check_config(data: bytes | memoryview, reading: Reading, *, top: bool = False) -> Checked:
    """Judge every object that a configuration names.

    Args:
        data: The JSON text.
        reading: How the file around it is read.
        top: It must be a model: an object with a class and a configuration.
    """
    checked = Checked()
    try:
        document = parse_json(decoded(data), CONFIG_BYTES, "the configuration")
    except MalformedError as error:
        checked.error = error.message
        offset = int(error.where[1:]) if error.where[1:].isdigit() else None
        checked.findings.append(Finding(rule="SL801", level=Level.ERROR, message=error.message, offset=offset))
        return checked
    return check_root(document.root, document.repeated, reading, checked, top=top)


def check_root(root: Any, repeated: Sequence[str], reading: Reading, checked: Checked, *, top: bool = False) -> Checked:
    """Judge every object that a parsed configuration names.

    Args:
        root: The document.
        repeated: Keys that stand twice in one of its objects.
        reading: How the file around it is read.
        checked: Takes what is found; given back.
        top: It must be a model: an object with a class and a configuration.
    """
    notes = Notes(None)
    if repeated:
        shown = ", ".join(f"'{escape(key, 40)}'" for key in repeated)
        notes.add("SL801", f"keys that stand twice in one object, and readers differ: {shown}")
    if top and not (isinstance(root, dict) and isinstance(root.get("class_name"), str)):
        notes.add("SL801", "the configuration is no object with a class name")
    walker = _Walker(reading, notes, checked)
    walker.walk(root)
    checked.findings += notes.done()
    if isinstance(root, dict) and isinstance(root.get("class_name"), str):
        checked.metadata["model"] = escape(root["class_name"], 80)
        checked.metadata["objects"] = str(walker.objects)
        checked.metadata["classes"] = ", ".join(escape(name, 60) for name in sorted(walker.classes))
    return checked


class _Walker:
    """Goes through a configuration without recursing."""

    def __init__(self, reading: Reading, notes: Notes, checked: Checked) -> None:
        self.reading, self.notes, self.checked = reading, notes, checked
        self.objects = 0
        self.classes: set[str] = set()

    def walk(self, root: Any) -> None:
        """Judge every node."""
        todo: list[tuple[str, Any]] = [("", root)]
        seen: set[int] = set()  # in YAML one node may stand in many places, itself included
        for _ in range(_NODES):
            if not todo:
                return
            path, node = todo.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, dict):
                if _is_code([node.get("code"), node.get("defaults"), node.get("closure")]):
                    self.notes.add("SL802", f"marshalled Python code{_at(path)}")
                if "class_name" in node and ("config" in node or "items" in node):
                    self._object(path, node)
                todo += [(f"{path}.{key}"[-200:], value) for key, value in reversed(node.items()) if isinstance(value, (dict, list))]
            elif isinstance(node, list):
                if _is_code(node):
                    self.notes.add("SL802", f"marshalled Python code{_at(path)}")
                todo += [(f"{path}[{index}]"[-200:], value) for index, value in enumerate(node) if isinstance(value, (dict, list))]
        self.notes.add("SL801", f"the configuration has more than {_NODES} nodes; the rest was not looked at")

    def _object(self, path: str, node: Mapping[str, Any]) -> None:
        name, module, registered = node["class_name"], node.get("module"), node.get("registered_name")
        self.objects += 1
        if not isinstance(name, str) or not isinstance(module, (str, type(None))):
            self.notes.add("SL804", f"a class or module that is no text{_at(path)}", level=Level.WARNING)
            return
        config = node.get("config")
        if not name.startswith("__") and len(self.classes) < _CLASSES:
            self.classes.add(name)
        if name == "__lambda__":
            self.notes.add("SL802", f"marshalled Python code of a lambda{_at(path)}")
        elif name in _DATA:
            return
        elif name == "function":
            if isinstance(config, str):
                self._verdict(path, judge_function(module, config))
        elif name == "__typespec__":
            self._verdict(path, judge_class(module, str(node.get("spec_name"))))
        else:
            self._class(path, name, module, config)
        if name != "function" or module not in (None, "builtins"):
            self._registered(path, name, module, registered, config)

    def _registered(self, path: str, name: str, module: str | None, registered: Any, config: Any) -> None:
        """A registered object comes before the class that is named."""
        usual = (None, "", name, f"Custom>{name}", f"Keras>{name}", "function", config if isinstance(config, str) else None)
        if module and registered not in usual and judge_class(module, name).level is Level.NOTE:
            shown = escape(str(registered), 80)
            self.notes.add("SL805", f"names Keras' {escape(name, 80)}, and makes '{shown}' where that is registered{_at(path)}")

    def _verdict(self, path: str, verdict: Verdict) -> bool:
        """Note what is not Keras' own; return whether it is."""
        if verdict.level is Level.NOTE:
            return True
        self.notes.add("SL803" if verdict.level is Level.ERROR else "SL804", f"{verdict.reason}{_at(path)}")
        return False

    def _class(self, path: str, name: str, module: str | None, config: Any) -> None:
        verdict = judge_class(module, name)
        special = name.rpartition(">")[2]
        given = config if isinstance(config, dict) else {}
        # What runs code is named as that, whichever module it claims to be from.
        if special == "Lambda":
            self._lambda(path, given)
        elif special == "TorchModuleWrapper":
            self._torch_module(path, given)
        elif special == "TFSMLayer":
            self.notes.add("SL806", f"TFSMLayer loads the program in '{escape(str(given.get('filepath')), 120)}'{_at(path)}")
        elif special in _WRAPPERS:
            self.notes.add("SL804", f"{special} runs a function that is not judged{_at(path)}")
        elif self._verdict(path, verdict):
            self._arguments(path, special, given)

    def _arguments(self, path: str, name: str, config: Mapping[str, Any]) -> None:
        """Arguments by which one of Keras' own classes does more than compute."""
        vocabulary = config.get("vocabulary")
        if name in _LOOKUPS and isinstance(vocabulary, str):
            self.notes.add("SL806", f"{name} reads the vocabulary '{escape(vocabulary, 120)}' when it is loaded{_at(path)}")
        for key in ("filepath", "file_path", "weights_path"):
            if isinstance(config.get(key), str):
                self.notes.add("SL806", f"{escape(name, 80)} is given the file '{escape(config[key], 120)}'{_at(path)}")
        if name in _SYMBOLS and isinstance(config.get("function"), str):
            self._verdict(path, judge_symbol(config["function"]))
        elif name in _METHODS:
            self._method(path, name, config)
        elif name == "TensorFlowOpLayer":
            self._node(path, config.get("node_def"))

    def _method(self, path: str, name: str, config: Mapping[str, Any]) -> None:
        for key in _METHODS[name]:
            value = config.get(key)
            if value is not None and not (isinstance(value, str) and _ATTRIBUTE.match(value)):
                self.notes.add("SL803", f"{name} reaches for the attribute '{escape(str(value), 80)}'{_at(path)}")

    def _node(self, path: str, node: Any) -> None:
        """The graph node of a TensorFlowOpLayer, as JSON in a text."""
        try:
            found = parse_json(str(node).encode("utf-8", "replace"), 1 << 20, "the node").root
        except MalformedError:
            found = None
        op = found.get("op") if isinstance(found, dict) else None
        if not isinstance(op, str):
            self.notes.add("SL804", f"TensorFlowOpLayer without an operation that can be read{_at(path)}")
        else:
            self._verdict(path, judge_operation(op))

    def _lambda(self, path: str, config: Mapping[str, Any]) -> None:
        """A Lambda layer: code in the file, or a function by name."""
        found = False
        for key in _CALLABLES:
            value = config.get(key)
            code = isinstance(value, list) and bool(value) and isinstance(value[0], str)
            if code or config.get(f"{key}_type") == "lambda":
                self.notes.add("SL802", f"a Lambda layer with marshalled Python code as its {key}{_at(path)}")
                found = True
        function = config.get("function")
        if isinstance(function, str) and config.get("function_type") != "lambda":
            module = config.get("module")
            self._verdict(path, _named(module if isinstance(module, str) else None, function))
        elif not found and not isinstance(function, dict):
            self.notes.add("SL804", f"a Lambda layer whose function cannot be told{_at(path)}")

    def _torch_module(self, path: str, config: Mapping[str, Any]) -> None:
        """A torch module that Keras unpickles without any guard: what the stream would do is looked at as well."""
        text = config.get("module")
        self.notes.add("SL807", f"TorchModuleWrapper unpickles a torch module, and nothing guards it{_at(path)}")
        if not isinstance(text, str):
            return
        from safeload import formats  # it lists the readers that come here
        from safeload.formats.nested import inner_reading
        from safeload.source import Source

        try:
            data = binascii.a2b_base64(text.encode("ascii", "ignore"))
            if self.reading.depth >= self.reading.limits.nesting:
                raise MalformedError("nested too deep")
            with Source.open(data, name="<torch module>") as source:
                found = formats.read(source, inner_reading(source, self.reading))
        except (binascii.Error, SafeloadError) as error:
            self.notes.add("SL807", f"the torch module cannot be read: {escape(str(error), 80)}{_at(path)}")
            return
        if found is None:
            self.notes.add("SL807", f"the torch module is in no format that is known{_at(path)}")
            return
        for part in found.parts:
            self.checked.parts.append(replace(part, member=f"torch module!{part.member}" if part.member else "torch module", main=False))
        self.checked.findings += (replace(item, member=None, offset=None) for item in found.findings)


def _named(module: str | None, name: str) -> Verdict:
    """A function that a Lambda layer of an older version names: looked up among custom objects, and in the module."""
    verdict = judge_function(None, name)
    if verdict.level is Level.NOTE or not module:
        return verdict
    within = judge_function(module, name)
    return within if within.level is Level.ERROR and module.split(".")[0] not in ("keras", "tf_keras", "tensorflow") else verdict


def _at(path: str) -> str:
    return f", at {escape(path.removeprefix('.'), 200)}" if path else ""


_CODE: Final = re.compile(r"[4Y][w][A-Za-z0-9+/\s]{30,}=*\s*\Z")


def _is_code(node: list[Any]) -> bool:
    """Whether a list is what Keras' `func_dump` writes: code as base64 of `marshal`, defaults, closure."""
    if len(node) != 3 or not isinstance(node[0], str) or len(node[0]) < 40:
        return False
    return _CODE.match(node[0]) is not None and all(item is None or isinstance(item, (list, dict)) for item in node[1:])


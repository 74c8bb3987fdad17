"""Chat templates: Jinja programs that come with a model and run in whoever formats a conversation.

A template is parsed by Jinja's own parser and never compiled or rendered. A program that renders it outside of a sandbox gives it
all of Python by way of attributes (`().__class__…`: CVE-2024-34359), so that is what is looked for: names of attributes that lead
out of the template's values, names that are computed so that nobody sees them, and statements that load other files.
Which tags exist is what transformers gives to templates: Jinja's own, break and continue, do, and `generation`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from safeload.findings import Finding, escape
from safeload.walk import finding

if TYPE_CHECKING:
    from jinja2 import Environment, nodes

__all__ = ["NOT_ANALYSED", "internals_named", "judge_template"]

NOT_ANALYSED: Final = "not analysed: install safeload[jinja]"
_LONGEST: Final = 1 << 17  # characters; published templates have at most some ten thousand
_SHOWN: Final = 80
_REPEAT: Final = 1_000_000
_FOLD: Final = 4096  # characters of a text that is put together from constants
_DEPTH: Final = 64

_TAG: Final = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_DUNDER: Final = re.compile(r"__[A-Za-z]\w*__")
_KNOWN: Final = re.compile(
    r"__(?:class|base|bases|mro|subclasses|globals|builtins|import|init|dict|getattribute|getattr|call|code|closure|func|self|module"
    r"|reduce|reduce_ex|loader|spec|new|init_subclass|annotations|wrapped)__"
)
# Attributes of Python's objects that lead to code, frames or globals without two underscores in front.
_INTERNAL: Final = frozenset(
    """mro func_globals func_code func_closure im_func im_self im_class gi_frame gi_code gi_yieldfrom cr_frame cr_code cr_origin
    ag_frame ag_code ag_await tb_frame tb_next f_back f_globals f_locals f_builtins f_code co_code co_consts""".split()  # noqa: SIM905 - a table for people
)
# Called as functions or methods, these start programs or code; no conversation needs them.
_CALLS: Final = frozenset(
    """eval exec compile execfile open getattr setattr delattr globals locals vars breakpoint input __import__ import_module
    popen system spawn check_output check_call Popen fork execl execle execlp execv execve execvp startfile load_module
    exec_module from_string""".split()  # noqa: SIM905 - as above
)
# Filters that take the name of an attribute, and where it stands among their arguments; as a keyword it is "attribute".
_BY_NAME: Final = {
    "attr": 0, "map": None, "groupby": 0, "sort": 2, "unique": 1, "min": 1, "max": 1, "sum": 0, "selectattr": 0, "rejectattr": 0,
}  # fmt: skip
# What makes a text out of other texts.
_BUILDING: Final = frozenset("join format replace reverse lower upper string trim title capitalize center list indent".split())  # noqa: SIM905
_METHODS: Final = frozenset("join format replace lower upper strip lstrip rstrip title capitalize format_map decode".split())  # noqa: SIM905


def judge_template(text: str) -> tuple[list[Finding], str | None]:
    """Say what a template would reach for.

    Args:
        text: The template.

    Returns:
        Findings without a place, and why it could not be judged, or None. Without Jinja, a template that shows in its text what it
        is after is still found out.
    """
    if "{{" not in text and "{%" not in text:
        return [], None
    if len(text) > _LONGEST:
        return [finding("SL707", f"a chat template of {len(text)} characters; {_LONGEST} are judged")], None
    try:
        environment = _environment()
    except ImportError:
        found = internals_named(text)
        return found, None if found else f"the chat template was {NOT_ANALYSED}"
    try:
        tree = _parse(environment, text)
    except Exception as error:  # noqa: BLE001 - Jinja raises what it likes on hostile text: too deep, digits, its own errors
        why = escape(str(error).partition("\n")[0], 200) or type(error).__name__
        return [*internals_named(text), finding("SL707", f"a chat template that Jinja does not parse: {why}")], None
    return list(dict.fromkeys(_Judge(tree).run())), None


def internals_named(text: str) -> list[Finding]:
    """Say what shows without a parser: names of Python's internals inside of tags. For any text that somebody could render."""
    if "__" not in text or ("{{" not in text and "{%" not in text):
        return []
    names = dict.fromkeys(name for tag in _TAG.findall(text) for name in _KNOWN.findall(tag))
    return [_escape_finding(f"names '{escape(name, _SHOWN)}'") for name in list(names)[:8]]


def _escape_finding(what: str) -> Finding:
    return finding("SL703", f"a chat template {what}, which leads to running code")


def _parse(environment: Environment, text: str) -> nodes.Template:
    """Parse without `Environment.parse`, which compiles and executes a line to dress up the traceback of an error."""
    from jinja2.parser import Parser

    return Parser(environment, text).parse()


@functools.cache
def _environment() -> Environment:
    """Jinja with the tags that templates of models use. Raises ImportError where Jinja is not installed."""
    from jinja2 import Environment, nodes
    from jinja2.ext import ExprStmtExtension, Extension, LoopControlExtension

    class Generation(Extension):
        """`{% generation %}…{% endgeneration %}`, which transformers uses to mark what the assistant said."""

        tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

        def parse(self, parser: Any) -> nodes.Node:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    return Environment(extensions=[Generation, LoopControlExtension, ExprStmtExtension], cache_size=0, autoescape=False)  # noqa: S701 - never rendered


class _Judge:
    """One pass over a tree, with a list of what is still to be seen instead of recursion."""

    def __init__(self, tree: nodes.Template) -> None:
        from jinja2 import nodes

        self.nodes = nodes
        self.tree = tree
        self.all = list(self._everything(tree))
        self.macros = {node.name for node in self.all if isinstance(node, nodes.Macro)}
        self.assigned = frozenset(self._block_texts())
        self.built: frozenset[str] = frozenset()
        self.built = self._built_names()

    @staticmethod
    def _everything(tree: nodes.Node) -> Iterator[nodes.Node]:
        todo = [tree]
        while todo:
            node = todo.pop()
            yield node
            todo.extend(reversed(list(node.iter_child_nodes())))

    def run(self) -> Iterator[Finding]:
        """Yield what is found, in the order of the template."""
        nodes = self.nodes
        for node in self.all:
            if isinstance(node, nodes.Getattr):
                yield from self._attribute(node.attr, "takes the attribute")
            elif isinstance(node, nodes.Getitem):
                yield from self._named(node.arg, "takes the item", computed="takes an item whose name it computes")
            elif isinstance(node, (nodes.Filter, nodes.Test)):
                yield from self._filter(node)
            elif isinstance(node, nodes.Call):
                yield from self._call(node)
            elif isinstance(node, (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
                what = type(node).__name__.lower().replace("fromimport", "import")
                yield finding("SL704", f"a chat template loads another file: '{what}' of {self._shown(node.template)}")
            elif isinstance(node, (nodes.Const, nodes.TemplateData)):
                yield from self._text(node)
            elif isinstance(node, (nodes.Mul, nodes.Pow)):
                yield from self._cost(node)
            if isinstance(node, (nodes.Concat, nodes.Add, nodes.Filter)):
                yield from self._put_together(node)

    def _attribute(self, name: str, how: str) -> Iterator[Finding]:
        if _DUNDER.fullmatch(name) or name in _INTERNAL:
            yield _escape_finding(f"{how} '{escape(name, _SHOWN)}'")
        elif name.startswith("_"):
            message = f"a chat template {how} '{escape(name, _SHOWN)}': a private one, which a sandbox refuses"
            yield finding("SL705", message)

    def _named(self, node: nodes.Node, how: str, *, computed: str) -> Iterator[Finding]:
        """An attribute or item by the value of an expression."""
        value = self._fold(node)
        if isinstance(value, str):
            # A key of a dict may well begin with one underscore; two on both sides are Python's.
            found = next((part for part in value.split(".") if _DUNDER.fullmatch(part) or part in _INTERNAL), None)
            if found is not None:
                yield _escape_finding(f"{how} '{escape(found, _SHOWN)}'")
        elif value is None and self._is_built(node):
            yield finding("SL705", f"a chat template {computed}: what it reaches for cannot be told")

    def _filter(self, node: Any) -> Iterator[Finding]:
        if node.name not in _BY_NAME:
            return
        names = [pair.value for pair in node.kwargs if pair.key == "attribute"]
        place = _BY_NAME[node.name]
        if place is not None and len(node.args) > place:
            names.append(node.args[place])
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            names.append(node.dyn_args or node.dyn_kwargs)
        if node.name == "map":  # map("attr", name): the name of a filter, then its arguments
            names += node.args[1:]
        how, computed = f"takes, by the filter '{node.name}', the attribute", "takes an attribute by a computed name"
        for name in names:
            yield from self._named(name, how, computed=computed)
            if node.name == "attr" and not isinstance(self._fold(name), (str, int)) and not self._is_built(name):
                yield finding("SL705", "a chat template takes an attribute whose name is in a variable: what it reaches for cannot be told")

    def _call(self, node: Any) -> Iterator[Finding]:
        nodes = self.nodes
        target = node.node
        name = target.name if isinstance(target, nodes.Name) else target.attr if isinstance(target, nodes.Getattr) else None
        if name in _CALLS and name not in self.macros:
            yield _escape_finding(f"calls '{escape(name, _SHOWN)}'")
        formats = isinstance(target, nodes.Getattr) and name in ("format", "format_map") and self._fold(target.node) is None
        if formats and self._is_built(target.node):
            yield finding("SL705", "a chat template formats a text that it puts together: which attributes that takes cannot be told")
        if name == "range" and any(self._large(argument) for argument in node.args):
            yield finding("SL706", "a chat template loops over more than a million numbers")

    def _text(self, node: Any) -> Iterator[Finding]:
        """A text inside of an expression or an assigned block: a name may be carried in a variable."""
        if isinstance(node, self.nodes.TemplateData):
            if id(node) not in self.assigned:
                return
            text = str(node.data)
        elif isinstance(node.value, str):
            text = node.value
        else:
            return
        found = _KNOWN.search(text)
        if found:
            yield _escape_finding(f"holds the name '{escape(found[0], _SHOWN)}' as a text")

    def _put_together(self, node: nodes.Node) -> Iterator[Finding]:
        """A text of several: `format` takes the attributes that it names."""
        value = self._fold(node)
        found = _KNOWN.search(value) if isinstance(value, str) else None
        if found:
            yield _escape_finding(f"puts together the name '{escape(found[0], _SHOWN)}'")

    def _block_texts(self) -> Iterator[int]:
        """Texts that `{% set x %}…{% endset %}` puts into a variable."""
        for block in self.all:
            if isinstance(block, self.nodes.AssignBlock):
                for output in block.body:
                    yield from map(id, output.nodes if isinstance(output, self.nodes.Output) else ())

    def _cost(self, node: Any) -> Iterator[Finding]:
        if isinstance(node, self.nodes.Pow) or self._large(node.left) or self._large(node.right):
            yield finding("SL706", "a chat template multiplies beyond what a conversation needs")

    def _large(self, node: nodes.Node) -> bool:
        value = self._fold(node)
        return (isinstance(value, int) and abs(value) > _REPEAT) or isinstance(node, self.nodes.Pow)

    def _shown(self, node: nodes.Node) -> str:
        value = self._fold(node)
        return f"'{escape(value, _SHOWN)}'" if isinstance(value, str) else "a computed name"

    # ---- texts that are put together

    def _fold(self, node: nodes.Node, depth: int = 0) -> str | int | None:
        """The value of an expression of constants, as far as texts are put together in the usual ways; None for anything else."""
        nodes = self.nodes
        if depth > _DEPTH:
            return None
        if isinstance(node, nodes.Const):
            return node.value if isinstance(node.value, (str, int)) else None
        if isinstance(node, nodes.Neg):
            value = self._fold(node.node, depth + 1)
            return -value if isinstance(value, int) else None
        if isinstance(node, nodes.Concat):
            return _joined([self._fold(part, depth + 1) for part in node.nodes], "")
        if isinstance(node, nodes.Add):
            left, right = self._fold(node.left, depth + 1), self._fold(node.right, depth + 1)
            if isinstance(left, str) and isinstance(right, str):
                return _joined([left, right], "")
            return left + right if isinstance(left, int) and isinstance(right, int) else None
        if isinstance(node, nodes.Mul):
            left, right = self._fold(node.left, depth + 1), self._fold(node.right, depth + 1)
            if isinstance(left, int) and isinstance(right, int) and max(abs(left), abs(right)) < 1 << 64:
                return left * right
            text, times = (left, right) if isinstance(left, str) else (right, left)
            return text * times if isinstance(text, str) and isinstance(times, int) and 0 <= times * len(text) <= _FOLD else None
        if isinstance(node, nodes.Filter) and node.node is not None:
            return self._folded_filter(node, depth)
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
            value, step = self._fold(node.node, depth + 1), node.arg.step and self._fold(node.arg.step, depth + 1)
            return value[::-1] if isinstance(value, str) and step == -1 else None
        return None

    def _folded_filter(self, node: Any, depth: int) -> str | None:
        nodes, inner = self.nodes, node.node
        if node.name == "join" and isinstance(inner, (nodes.List, nodes.Tuple)):
            between = self._fold(node.args[0], depth + 1) if node.args else ""
            return _joined([self._fold(item, depth + 1) for item in inner.items], between) if isinstance(between, str) else None
        value = self._fold(inner, depth + 1)
        if not isinstance(value, str):
            return None
        if node.name == "replace" and len(node.args) >= 2:
            old, new = (self._fold(argument, depth + 1) for argument in node.args[:2])
            fits = isinstance(old, str) and isinstance(new, str) and old and len(value) * (1 + len(new)) <= 16 * _FOLD
            return value.replace(str(old), str(new))[:_FOLD] if fits else None
        simple = {"lower": value.lower(), "upper": value.upper(), "reverse": value[::-1], "trim": value.strip(), "string": value}
        return simple.get(node.name)

    def _is_built(self, node: nodes.Node) -> bool:
        """Whether an expression makes a text, so that an item by it is one that nobody can see."""
        nodes = self.nodes
        todo = [node]
        while todo:
            part = todo.pop()
            if isinstance(part, nodes.Concat) or (isinstance(part, nodes.Filter) and part.name in _BUILDING):
                return True
            if isinstance(part, nodes.Call) and isinstance(part.node, nodes.Getattr) and part.node.attr in _METHODS:
                return True
            if isinstance(part, nodes.Mod) and isinstance(self._fold(part.left), str):
                return True
            if isinstance(part, (nodes.Name, nodes.NSRef, nodes.Getattr)) and self._key(part) in self.built:
                return True
            if isinstance(part, (nodes.Add, nodes.Mul)) and any(isinstance(self._fold(side), str) for side in (part.left, part.right)):
                return True
            if isinstance(part, (nodes.Add, nodes.Mul, nodes.CondExpr, nodes.Or, nodes.And)):
                todo.extend(part.iter_child_nodes())
        return False

    def _key(self, node: Any) -> str:
        """What a variable is called: "x", or "ns.x" for an attribute of a namespace."""
        nodes = self.nodes
        if isinstance(node, nodes.Name):
            return str(node.name)
        if isinstance(node, nodes.NSRef):
            return f"{node.name}.{node.attr}"
        return f"{node.node.name}.{node.attr}" if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name) else ""

    def _built_names(self) -> frozenset[str]:
        """Variables that hold a text that was put together; of one that came from another such, too."""
        nodes = self.nodes
        assigned = [(self._key(node.target), node.node) for node in self.all if isinstance(node, nodes.Assign)]
        found: set[str] = {self._key(node.target) for node in self.all if isinstance(node, nodes.AssignBlock)} - {""}
        for _ in range(8):
            self.built = frozenset(found)
            found |= {key for key, value in assigned if key and key not in found and self._is_built(value)}
            if len(found) == len(self.built):
                break
        return frozenset(found)


def _joined(parts: list[str | int | None], between: str) -> str | None:
    """Texts and numbers in one text; None when one of them is neither, or it becomes too long."""
    if any(part is None for part in parts):
        return None
    text = between.join(str(part) for part in parts)
    return text if len(text) <= _FOLD else None

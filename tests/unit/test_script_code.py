"""What the text of a TorchScript archive says of its classes, read line by line; nothing of it is compiled."""

from __future__ import annotations

from safeload.formats.script_code import script_classes
from safeload.module_parts import module_children
from safeload.program import Inert, ScriptClass
from safeload.tensor_table import as_modules
from tests.effort import within

TEXT = """class Net(Module):
  __parameters__ = ["weight", "bias", ]
  __buffers__ = ["kept", ]
  __annotations__ = []
  weight : Tensor
  def forward(self: __torch__.a.b.Net) -> Tensor:
    __parameters__ = ["not", ]
    return x
class Plain(NamedTuple):
  __parameters__ = ["no", ]
class Empty(Module):
  __parameters__ = []
  __buffers__ = []
"""


def test_parameters_and_buffers_of_module_classes() -> None:
    found = dict(script_classes("code/__torch__/a/b.py", TEXT))
    assert found == {
        "__torch__.a.b.Net": ScriptClass(("weight", "bias"), ("kept",)),
        "__torch__.a.b.Empty": ScriptClass((), ()),
    }


def test_text_that_is_no_code_gives_nothing_and_takes_no_time() -> None:
    """The text is the file's."""
    many = "class A(Module):\n" * 10_000
    with within(5):
        for text in ("", "class", "class (Module):", "  __parameters__ = [" + '"' * 100_000, many, '\\"' * 200_000):
            list(script_classes("code/a.py", text))


def test_attributes_that_are_neither_are_left_out_and_circles_end() -> None:
    """torch's own state dict has parameters, buffers and modules only, in this order."""
    inner = Inert("__torch__.a.b.Empty", args=(), state={})
    node = Inert("__torch__.a.b.Net", args=(), state={"kept": 1, "plain": 2, "bias": 3, "inner": inner, "weight": 4})
    node.state["itself"] = node
    as_modules(node, dict(script_classes("code/__torch__/a/b.py", TEXT)))
    assert [name for name, _ in module_children(node) or []] == ["bias", "weight", "kept", "inner", "itself"]

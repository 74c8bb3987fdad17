"""GGUF."""

from __future__ import annotations

from typing import Final

from tests.forge_gguf import TEXT, Tensor, array, entry, gguf, templated, text
from tests.formats_page import FormatRow

__all__ = ["ROWS"]

# CVE-2024-34359
_INJECTION: Final = "{{ ().__class__.__base__.__subclasses__()[0].__init__.__globals__['os'].popen('true') }}"
_ORDINARY: Final = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}"


ROWS: Final = [
    FormatRow(
        format="gguf",
        title="GGUF",
        written_by="llama.cpp, gguf-py and what is built on them",
        reads="header, metadata, the tensors' table and places; chat templates by Jinja's own parser, never rendered",
        extra="jinja",
        order=20,
        benign={
            "metadata, a vocabulary and two tensors": lambda: gguf(
                entry("general.architecture", "llama"),
                entry("tokenizer.ggml.tokens", array(TEXT, [text("a"), text("b")]), 9),
                tensors=[Tensor("token_embd.weight", (4, 2), 0, bytes(32)), Tensor("output.weight", (256,), 12, bytes(144))],
            ),
            "an ordinary chat template": lambda: templated(_ORDINARY),
        },
        hostile={
            "a chat template that reaches for Python's objects (CVE-2024-34359)": (lambda: templated(_INJECTION), "SL703"),
            "the same with the name put together": (lambda: templated("{{ messages['__cla' ~ 'ss__'] }}"), "SL703"),
            "a chat template that includes a file": (lambda: templated("{% include '/etc/passwd' %}"), "SL704"),
            "a chat template that hides a name": (lambda: templated("{{ messages[parts|join] }}"), "SL705"),
            "a chat template that repeats a text a billion times": (lambda: templated("{{ 'a' * 1000000000 }}"), "SL706"),
            "a chat template that Jinja does not parse": (lambda: templated("{% debug %}"), "SL707"),
            "2⁶³ metadata entries": (lambda: gguf(counts=(None, 1 << 63)), "SL701"),
            "a text of 2⁶³ bytes": (lambda: gguf(entry("a", text("b", length=1 << 63), TEXT)), "SL701"),
            "the same key twice": (lambda: gguf(entry("a", "b"), entry("a", "c")), "SL701"),
            "a tensor behind the end of the file": (lambda: gguf(tensors=[Tensor("a", offset=1 << 40)]), "SL702"),
            "two tensors on the same bytes": (lambda: gguf(tensors=[Tensor("a"), Tensor("b", offset=0)]), "SL702"),
            "a tensor of an unknown type": (lambda: gguf(tensors=[Tensor("a", kind=140)]), "SL708"),
        },
    )
]

"""What the code of a TorchScript archive calls: operators that reach files, processes or the network, and those of libraries.

The code is text that torch's own compiler reads, not Python: there is nothing to import, and all that it can do is call operators.
torch writes `torch.add(a, b)` for its own, `ops.quantized.linear(…)` for those of other namespaces, and `__torch__.…` for what is
in the archive. The text is divided into words here and never compiled. A mobile archive has its calls in `bytecode.pkl`, too.
Source: torch/csrc/jit/serialization/python_print.cpp and torch/csrc/jit/frontend/lexer.h; operators as torch 2.13 registers them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from safeload.findings import Finding, escape
from safeload.walk import finding

__all__ = ["DANGEROUS", "judge_bytecode", "judge_class", "judge_code", "judge_operator"]

_WRITES, _READS = "writes a file", "reads a file"
_CALLS: Final = "calls a function in another process, over the network"

DANGEROUS: Final[Mapping[tuple[str, str], str]] = {
    ("aten", "save"): _WRITES, ("aten", "from_file"): _READS, ("debugprims", "load_tensor"): _READS,
    ("prim", "rpc_async"): _CALLS, ("prim", "rpc_sync"): _CALLS, ("prim", "rpc_remote"): _CALLS,
    ("prim", "PythonOp"): "calls a Python function",
    # of torchvision and torchaudio
    ("image", "read_file"): _READS, ("image", "write_file"): _WRITES, ("video_reader", "read_video_from_file"): _READS,
    ("video_reader", "probe_video_from_file"): _READS, ("torchaudio", "sox_io_load_audio_file"): _READS,
    ("torchaudio", "sox_io_get_info"): _READS, ("torchaudio", "sox_io_save_audio_file"): _WRITES,
    ("torchaudio", "sox_effects_apply_effects_file"): _READS,
}  # fmt: skip
"""(namespace, operator) → what it does that no model needs."""

# Namespaces of torch itself that compute. What talks to other processes (c10d) or works on raw addresses (symm_mem) is not among them.
_OWN: Final = frozenset(
    """aten prim prims quantized _quantized quantization profiler prepacked mkldnn mkldnn_prepacked mkl onednn sparse xnnpack metal
    metal_prepack vulkan vulkan_prepack static_runtime inductor inductor_prims rngprims export onnx _caffe2 _native
    quantized_decomposed""".split()  # noqa: SIM905 - a table for people
)
# Operators of torchvision and torchaudio that only compute; both register them when they are imported.
_BESIDE: Final = frozenset(
    {("torchvision", name) for name in ("nms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")}
    | {("image", name) for name in ("decode_image", "decode_jpeg", "decode_png", "decode_gif", "encode_jpeg", "encode_png")}
    | {("torchaudio", name) for name in ("rnnt_loss", "rnnt_loss_forward", "forced_align", "_lfilter")}
)
_LIBRARY: Final = ["__torch__", "torch", "classes"]
_CLASSES: Final = frozenset({"quantized", "rnn", "sparse", "xnnpack", "metal", "vulkan", "mkldnn", "onednn", "profiler", "cuda"})

_WORD: Final = re.compile(
    r"""(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<comment>\#[^\n]*)|(?P<name>[^\W\d]\w*(?:[ \t\\\n]*\.[ \t\\\n]*[^\W\d]\w*)*)"""
    r"""|(?P<number>\d[\w.]*)|(?P<dot>\.)|(?P<open>["'])""",
    re.DOTALL,
)
_SPACE: Final = re.compile(r"[ \t\\\n]+")
_QUALIFIED: Final = re.compile(rb"([A-Za-z_]\w{0,63})::([A-Za-z_]\w{0,127})")
_METHODS: Final = frozenset(name for _, name in DANGEROUS)
_ANY: Final = re.compile(rf"\b(?:{'|'.join(sorted(_METHODS))})\b")
_SHOWN: Final = 80


def judge_operator(space: str, name: str) -> Finding | None:
    """Say what is to be said of one operator, by its namespace and its name without an overload."""
    shown = f"'{escape(space, _SHOWN)}::{escape(name, _SHOWN)}'"
    if (space, name) in DANGEROUS:
        return finding("SL731", f"the code calls {shown}, which {DANGEROUS[space, name]}")
    if space in _OWN or (space, name) in _BESIDE:
        return None
    return finding("SL732", f"the code calls {shown}, an operator out of a library")


def judge_class(name: str) -> Finding | None:
    """Say what is to be said of a class by its full name; those of the archive itself begin with `__torch__`, too."""
    parts = name.split(".")
    if parts[:3] != _LIBRARY or len(parts) < 4 or parts[3] in _CLASSES:
        return None
    return finding("SL732", f"the code uses '{escape('.'.join(parts[3:]), _SHOWN)}', a class out of a library")


def judge_bytecode(data: bytes | memoryview) -> Iterator[tuple[Finding, int]]:
    """Yield (finding, offset) of every operator that a stream of bytecode names.

    A name ends where the next opcode begins, which may be a letter, too: so what begins like a known name is one.
    """
    for match in _QUALIFIED.finditer(data):
        space, name = match[1].decode(), match[2].decode()
        known = next((one for within, one in (*DANGEROUS, *_BESIDE) if within == space and name.startswith(one)), name)
        found = judge_operator(space, known)
        if found is not None:
            yield found, match.start()


def judge_code(text: str) -> Iterator[tuple[Finding, int]]:
    """Yield (finding, offset in characters) of every call in one file of code that is not plain computing.

    Args:
        text: The file.
    """
    methods = frozenset(re.findall(r"\bdef[ \t]+(\w+)", text)) if any(name in text for name in _METHODS) else frozenset[str]()
    behind_value = False
    for match in _WORD.finditer(text):
        kind = match.lastgroup
        if kind == "open":
            yield finding("SL733", "a text in the code that does not end, as torch does not write it"), match.start()
            rest = _ANY.search(text, match.start())
            if rest is not None:  # what is text and what is code cannot be told any more
                yield from ((found, rest.start()) for found in [_method(rest[0], frozenset())] if found is not None)
            return
        elif kind == "name":
            parts = _SPACE.sub("", match[0]).split(".")
            found = _method(parts[0], methods) if behind_value else _path(parts, text, match.end())
            if found is None and not behind_value and parts[0] not in ("torch", "ops", "__torch__"):
                found = next((one for one in (_method(part, methods) for part in parts[1:]) if one is not None), None)
            if found is not None:
                yield found, match.start()
        # A dot that no name stands before goes on from a value: "(x).forward", "x[0].save".
        behind_value = kind == "dot"


def _path(parts: list[str], text: str, end: int) -> Finding | None:
    root = parts[0]
    if root == "torch":
        if len(parts) == 1:
            return finding("SL733", "the code gives another name to 'torch', which torch does not write")
        return judge_operator("aten", parts[1])
    if root == "ops":
        if len(parts) < 3:
            # A value of this name is one's own business; torch itself writes all three parts.
            return finding("SL733", "the code gives another name to 'ops', which torch does not write") if _is_use(text, end) else None
        return judge_operator(parts[1], parts[2])
    if root in ("rpc_async", "rpc_sync", "rpc_remote"):
        return judge_operator("prim", root)
    return judge_class(".".join(parts)) if parts[:3] == _LIBRARY else None


def _is_use(text: str, end: int) -> bool:
    """Whether a name is not merely that of an attribute, an argument or a variable that is given a value here."""
    rest = text[end : end + 80].lstrip(" \t")
    return not (rest.startswith(":") or (rest.startswith("=") and not rest.startswith("==")))


def _method(name: str, methods: frozenset[str]) -> Finding | None:
    """A dangerous operator as the method of a value: torch writes operators as functions, so somebody else wrote this."""
    if name not in _METHODS or name in methods or name in ("PythonOp", "load_tensor", "read_file", "write_file"):
        return None
    space = next(space for space, one in DANGEROUS if one == name)
    return judge_operator(space, name)

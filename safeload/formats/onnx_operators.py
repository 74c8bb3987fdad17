"""What is known of ONNX operators: who defines them, and which of them do more than compute.

An operator is known when ONNX or ONNX Runtime define it, or when the model itself does, as a function whose body is judged too. Any
other comes out of a library that somebody has to load, and what it does cannot be seen in the model.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["DANGEROUS", "PYTHON", "STANDARD", "known_operators", "standard_domain"]

STANDARD: Final = frozenset({"", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview", "ai.onnx.preview.training"})
"""Domains of ONNX itself; "ai.onnx" is another name of ""."""

DANGEROUS: Final[Mapping[tuple[str, str], str]] = {
    ("com.microsoft", "PythonOp"): "runs a Python function",
    ("com.microsoft", "PythonOpGrad"): "runs a Python function",
    ("ai.onnx.contrib", "PyOp"): "runs a Python function",
    ("com.microsoft.extensions", "AzureAudioToText"): "sends its input over the network",
    ("com.microsoft.extensions", "AzureTextToText"): "sends its input over the network",
    ("com.microsoft.extensions", "AzureTritonInvoker"): "sends its input over the network",
    ("com.microsoft.extensions", "OpenAIAudioToText"): "sends its input over the network",
}
"""(domain, operator) → what it does that no model needs."""

PYTHON: Final = frozenset({"PyOp", "PythonOp", "PyCustomOp"})
"""Names under which libraries of operators offer Python functions, in domains that whoever writes the model chooses."""

OPAQUE: Final[Mapping[tuple[str, str], str]] = {
    ("com.microsoft", "EPContext"): "hands compiled code to a device's driver",
    ("com.microsoft", "Snpe"): "hands a model of another format to a device's driver",
}
"""(domain, operator) → why it cannot be judged, although ONNX Runtime defines it."""


def standard_domain(domain: str) -> str:
    """The one name of a domain that has two."""
    return "" if domain == "ai.onnx" else domain


@functools.cache
def known_operators() -> Mapping[str, frozenset[str]]:
    """Domain → the operators that ONNX and ONNX Runtime define in it, in any version."""
    document = json.loads(Path(__file__).with_name("onnx_operators.json").read_text("utf-8"))
    return {domain: frozenset(names) for domain, names in document["operators"].items()}

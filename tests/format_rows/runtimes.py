"""Runtimes on devices: OpenVINO, Core ML."""

from __future__ import annotations

from typing import Final

from tests.forge_runtimes import (
    branch,
    constant,
    coreml,
    coreml_blobs,
    custom_layer,
    layer,
    linked,
    network,
    openvino,
    pipeline,
    program,
)  # fmt: skip
from tests.formats_page import FormatRow

__all__ = ["ROWS"]

_ENTITY: Final = '<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/passwd">]>'

ROWS: Final = [
    FormatRow(
        format="openvino",
        title="OpenVINO",
        written_by="OpenVINO, Optimum Intel (`.xml` with a `.bin` beside it)",
        reads="every layer's operator set, the place of all numbers in the file beside; no entities, nothing outside",
        order=26,
        benign={
            "a graph": openvino,
            "the same, with its numbers beside it": lambda: {"m.xml": openvino(), "m.bin": b"\1\2\3\4\5\6\7\x08" * 3},
            "a tokenizer of openvino_tokenizers": lambda: openvino(layer("BPETokenizer", "extension")),
        },
        hostile={
            "a layer out of a library": (lambda: openvino(layer("Mine", "extension")), "SL871"),
            "an external entity": (lambda: openvino(before=_ENTITY), "SL853"),
            "numbers behind the file beside": (lambda: {"m.xml": openvino(constant(8)), "m.bin": b"\1\2\3\4\5\6\7\x08" * 3}, "SL851"),
            "a shape that the numbers cannot fill": (lambda: openvino(constant(size=8)), "SL851"),
            "a pickle beside it": (lambda: {"m.xml": openvino(), "m.bin": b"cos\nsystem\n(S'true'\ntR."}, "SL101"),
        },
    ),
    FormatRow(
        format="coreml",
        title="Core ML",
        written_by="coremltools, as `.mlmodel` and in `.mlpackage`; CatBoost",
        reads="every layer of every network, pipeline and program; files and classes that they name",
        order=27,
        benign={
            "a network": coreml,
            "a pipeline of models": lambda: coreml(pipeline(coreml(), coreml())),
            "a package": lambda: {
                "Manifest.json": b'{"itemInfoEntries": {"1": {"path": "com.apple.CoreML/model.mlmodel"}}}',
                "Data/com.apple.CoreML/model.mlmodel": coreml(program("@model_path/weights/weight.bin")),
                "Data/com.apple.CoreML/weights/weight.bin": coreml_blobs(),
            },
        },
        hostile={
            "a layer of the application's": (lambda: coreml(network(custom_layer("Mine"))), "SL871"),
            "the same in a branch in a pipeline": (lambda: coreml(pipeline(coreml(network(branch(custom_layer("Mine")))))), "SL871"),
            "a model that is another file": (lambda: coreml(linked("other.mlmodelc")), "SL871"),
            "a model in `../../x`": (lambda: coreml(linked("../../x")), "SL824"),
            "numbers in `../../etc/passwd`": (lambda: coreml(program("@model_path/../../etc/passwd")), "SL824"),
            "numbers in `/etc/passwd`": (lambda: coreml(program("/etc/passwd")), "SL824"),
            "a package whose item lies outside": (
                lambda: {"Manifest.json": b'{"itemInfoEntries": {"1": {"path": "../x"}}}', "x.mlmodel": coreml()},
                "SL824",
            ),
        },
    ),
    FormatRow(
        format="coreml-weights",
        title="Core ML numbers",
        written_by="coremltools, as `weights/weight.bin`",
        reads="the place of every blob",
        order=28,
        benign={"two blobs": coreml_blobs},
        hostile={
            "a blob behind the end": (lambda: coreml_blobs(offset=1 << 40), "SL851"),
            "2³¹ blobs": (lambda: coreml_blobs(count=1 << 31), "SL851"),
            "a pickle behind the last": (lambda: coreml_blobs() + bytes(64) + b"cos\nsystem\n(S'true'\ntR.", "SL126"),
        },
    ),
]

"""Other runtimes: OpenVINO, Core ML, PaddlePaddle."""

from __future__ import annotations

import json
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
    paddle,
    paddle_parameters,
    pipeline,
    program,
)  # fmt: skip
from tests.formats_page import FormatRow

__all__ = ["ROWS"]

_ENTITY: Final = '<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/passwd">]>'

def _pir(op: str) -> bytes:
    """A program as JSON."""
    block = {"ops": [{"#": "1.data", "A": []}, {"#": op, "A": [{"AT": {"#": "0.a_str", "D": "/x/y"}, "N": "file_path"}]}]}
    return json.dumps({"base_code": {"magic": "pir", "version": 4}, "program": {"regions": [{"blocks": [block]}]}}).encode()


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
    FormatRow(
        format="paddle-program",
        title="PaddlePaddle program",
        written_by="`paddle.jit.save`, `save_inference_model` (`.pdmodel`); its checkpoints (`.pdparams`) are pickles",
        reads="every operator of every block, and the files that attributes name",
        order=29,
        benign={
            "a product": paddle,
            "a directory with its parameters": lambda: {"m.pdmodel": paddle(), "m.pdiparams": paddle_parameters()},
        },
        hostile={
            "`py_func`": (lambda: paddle("py_func"), "SL872"),
            "`save` to a file": (lambda: paddle("save", path="/home/me/.bashrc"), "SL872"),
            "`load_combine` of a file": (lambda: paddle("load_combine"), "SL872"),
            "an operator out of a library": (lambda: paddle("my_operator"), "SL871"),
            "compiled code for a device": (lambda: paddle("tensorrt_engine"), "SL871"),
            "a program that breaks": (lambda: paddle() + b"\x0a\xff", "SL855"),
        },
    ),
    FormatRow(
        format="paddle-json",
        title="PaddlePaddle program as JSON",
        written_by="`paddle.jit.save` since version 3",
        reads="every operator's name",
        order=29,
        benign={"a product": lambda: _pir("1.matmul")},
        hostile={
            "`py_func`": (lambda: _pir("1.py_func"), "SL872"),
            "`save` in place": (lambda: _pir("1.save_"), "SL872"),
        },
    ),
    FormatRow(
        format="paddle-parameters",
        title="PaddlePaddle parameters",
        written_by="`paddle.jit.save` (`.pdiparams`)",
        reads="every tensor's type, shape and size",
        order=30,
        benign={"two tensors": paddle_parameters},
        hostile={
            "a tensor that leaves the file": (lambda: paddle_parameters((2, 3), left=8), "SL851"),
            "a shape of 2⁶² elements": (lambda: paddle_parameters((1 << 31, 1 << 31)), "SL851"),
            "a pickle behind the last": (lambda: paddle_parameters() + b"cos\nsystem\n(S'true'\ntR.", "SL851"),
        },
    ),
]

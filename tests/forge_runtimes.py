"""Forges models of runtimes on devices: OpenVINO's XML, Core ML's protocol buffers and its storage of numbers."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable

from tests.forge_protobuf import msg, number

__all__ = [
    "branch", "constant", "coreml", "coreml_blobs", "custom_layer", "inner_product", "layer", "linked", "network", "openvino",
    "paddle", "paddle_parameters", "pipeline", "program",
]  # fmt: skip


def layer(kind: str = "Relu", group: str | None = "opset1", data: str = "", name: str = "a") -> str:
    """One layer of OpenVINO's."""
    version = "" if group is None else f' version="{group}"'
    return f'<layer id="1" name="{name}" type="{kind}"{version}>{f"<data {data}/>" if data else ""}</layer>'


def constant(offset: object = 0, size: object = 24, shape: str = "2,3", kind: str = "f32") -> str:
    """A layer of numbers from the file beside."""
    return layer("Const", data=f'element_type="{kind}" shape="{shape}" offset="{offset}" size="{size}"')


def openvino(*layers: str, version: str = "11", before: str = '<?xml version="1.0"?>') -> bytes:
    """A model of OpenVINO's."""
    inner = "".join(layers) or layer("Parameter", data='shape="1,4" element_type="f32"') + constant() + layer("LRN", data='size="5"')
    return f'{before}<net name="m" version="{version}"><layers>{inner}</layers><edges/></net>'.encode()


def coreml(*kinds: bytes, version: int = 7, behind: bytes = b"") -> bytes:
    """A model of Core ML's; by default one linear layer."""
    described = msg(1, msg(1, "x")) + msg(10, msg(1, "y")) + msg(100, msg(1, "a model"))
    return number(1, version) + msg(2, described) + b"".join(kinds or [network(inner_product())]) + behind


def network(*layers: bytes) -> bytes:
    return msg(500, *(msg(1, one) for one in layers))


def inner_product() -> bytes:
    return msg(1, "fc") + msg(2, "x") + msg(3, "y") + msg(140, number(1, 4) + number(2, 3) + msg(20, msg(1, bytes(48))))


def custom_layer(name: str) -> bytes:
    return msg(1, "c") + msg(500, msg(10, name))


def branch(*layers: bytes) -> bytes:
    """A layer whose branch is a network of its own."""
    return msg(605, msg(1, *(msg(1, one) for one in layers)))


def pipeline(*models: bytes) -> bytes:
    return msg(202, *(msg(1, model) for model in models))


def linked(name: str) -> bytes:
    return msg(556, msg(1, msg(1, msg(1, name))))


def program(*places: str) -> bytes:
    """A program with one constant for each place of numbers."""
    values = (msg(5, msg(1, "val") + msg(2, msg(5, msg(1, place) + number(2, 64)))) for place in places)
    block = b"".join(msg(3, msg(1, "const") + value) for value in values)
    return msg(502, number(1, 1) + msg(2, msg(1, "main") + msg(2, msg(2, "CoreML7") + msg(3, msg(1, "CoreML7") + msg(2, block)))))


def coreml_blobs(blobs: Iterable[bytes] = (b"abc", b"de"), *, offset: int | None = None, count: int | None = None) -> bytes:
    """The numbers of a program; `offset` of the first blob and their `count` need not be true."""
    blobs = list(blobs)
    out = bytearray(struct.pack("<2I", len(blobs) if count is None else count, 2) + bytes(56))
    for index, blob in enumerate(blobs):
        out += bytes(-len(out) % 64)
        at = len(out) + 64 if offset is None or index else offset
        out += struct.pack("<2I3Q", 0xDEADBEEF, 1, len(blob), at, 0) + bytes(32) + blob
    return bytes(out)


def paddle(*operators: str, path: str = "/x/y", attribute: str = "file_path") -> bytes:
    """A program of PaddlePaddle's: a parameter and these operators, each with a text as an attribute."""
    shape = msg(3, msg(1, number(1, 5) + number(2, 2) + number(2, 3)))
    block = number(1, 0) + number(2, -1) + msg(3, msg(1, "w") + msg(2, number(1, 7) + shape) + number(3, 1))
    for op in ("feed", "matmul_v2", *operators, "fetch"):
        block += msg(4, msg(1, msg(1, "X") + msg(2, "w")) + msg(3, op) + msg(4, msg(1, attribute) + number(2, 2) + msg(5, path)))
    return msg(1, block) + msg(4, number(1, 3))


def paddle_parameters(*shapes: tuple[int, ...], left: int | None = None) -> bytes:
    """Tensors of FP32; of the last one only `left` bytes are there."""
    out = b""
    for shape in shapes or ((2, 3), (4,)):
        described = number(1, 5) + b"".join(number(2, size) for size in shape)
        values = b"\1\2\3\4" * min(64, math.prod(shape))
        out += struct.pack("<IQIi", 0, 0, 0, len(described)) + described + (values if left is None else values[:left])
    return out

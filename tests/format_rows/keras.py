"""Keras' files and HDF5."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.forge_hdf5 import FLOAT32, UINT8, Dataset, External, Group, Soft, Virtual, fixed, hdf5, opaque, reference, variable
from tests.forge_keras import CODE, bare, in_yaml, keras, keras_h5, layer, obj, sequential, weights
from tests.formats_page import FormatRow

__all__ = ["ROWS"]

_STREAM: Final = b"cos\nsystem\n(S'true'\ntR."
_DENSE: Final = layer(units=2, activation="relu")
_LAMBDA: Final = layer("Lambda", function=obj(None, "__lambda__", {"code": CODE, "defaults": None, "closure": None}))
_OLD_LAMBDA: Final = bare(sequential(layer("Lambda", function=[CODE, None, None], function_type="lambda")))

_EVERY: Final = Group(
    {
        "numbers": Dataset(FLOAT32, (2,), bytes(8)),
        "texts": Dataset(variable(), (2,), [b"one", b"two"]),
        "chunk": Dataset(fixed(4), (2,), b"abcdefgh", chunk=(2,)),
        "opaque": Dataset(opaque(4), (), b"abcd", compact=True),
        "referring": Dataset(reference(), (1,), refers=(Group(attrs={"name": "value"}),)),
        "link": Soft("/texts"),
    },
    {"text": "value", "bytes": b"value"},
)


def _v3(node: Any) -> bytes:
    return keras(sequential(_DENSE, node))


ROWS: Final = [
    FormatRow(
        format="keras",
        title="Keras 3",
        written_by='`model.save("model.keras")`',
        reads="every object of the configuration by module and class, every argument by which one reaches out, the weights as HDF5 or npz",
        order=40,
        benign={"layers of Keras' own, and weights": lambda: keras(sequential(_DENSE))},
        hostile={
            "a Lambda layer with marshalled code (CVE-2024-3660)": (lambda: _v3(_LAMBDA), "SL802"),
            "a module of Python's (CVE-2025-1550)": (lambda: _v3(obj("os", "system")), "SL803"),
            "a function that downloads and unpacks (CVE-2025-8747, CVE-2025-12060)": (
                lambda: _v3(layer("Lambda", function=obj("keras.utils", "function", "get_file"))),
                "SL803",
            ),
            "a function that switches the safe mode off (CVE-2025-9906)": (
                lambda: _v3(layer("Lambda", function=obj("keras.config", "function", "enable_unsafe_deserialization"))),
                "SL803",
            ),
            "a vocabulary by path (CVE-2025-12058)": (lambda: _v3(layer("StringLookup", vocabulary="/etc/passwd")), "SL806"),
            "a torch module that is unpickled (CVE-2025-49655)": (lambda: _v3(layer("TorchModuleWrapper", module="")), "SL807"),
            "weights that lie in another file (CVE-2026-1669)": (
                lambda: keras(sequential(_DENSE), {"model.weights.h5": weights({"x": External("/etc/passwd", "/")})}),
                "SL812",
            ),
            "a layer of its author's own": (lambda: _v3(obj("my_package", "MyLayer", {}, "my_package>MyLayer")), "SL804"),
        },
    ),
    FormatRow(
        format="keras-json",
        title="Keras configuration",
        written_by="`model.to_json()`",
        reads="as the configuration of Keras 3, with and without modules",
        order=42,
        benign={"layers of Keras' own": lambda: json.dumps(sequential(_DENSE)).encode()},
        hostile={"a Lambda layer with marshalled code": (lambda: json.dumps(_OLD_LAMBDA).encode(), "SL802")},
    ),
    FormatRow(
        format="keras-yaml",
        title="Keras configuration as YAML",
        written_by="`model.to_yaml()` until TensorFlow 2.6",
        reads="as the JSON; tags as of any YAML",
        order=42,
        benign={"layers of Keras' own": lambda: in_yaml(bare(sequential(_DENSE)))},
        hostile={
            "a Lambda layer with marshalled code": (lambda: in_yaml(_OLD_LAMBDA), "SL802"),
            "a tag that calls a function (CVE-2021-37678)": (
                lambda: in_yaml(bare(sequential(_DENSE))) + b"x: !!python/object/apply:os.system ['true']\n",
                "SL823",
            ),
        },
    ),
    FormatRow(
        format="hdf5",
        title="HDF5",
        written_by="Keras 2, h5py, PyTables and pandas, MATLAB",
        reads="every object, link and attribute; texts and opaque bytes as streams and configurations; numbers and foreign filters never",
        order=41,
        benign={
            "a Keras model": lambda: keras_h5(bare(sequential(_DENSE))),
            "numbers, texts, references and soft links": lambda: hdf5(_EVERY),
            "the same in the newer style": lambda: hdf5(_EVERY, newer=True),
        },
        hostile={
            "a Lambda layer with marshalled code (CVE-2025-9905)": (lambda: keras_h5(_OLD_LAMBDA), "SL802"),
            "a link into another file (CVE-2026-1669)": (lambda: hdf5(Group({"x": External("/etc/passwd", "/")})), "SL812"),
            "bytes that lie in another file (CVE-2026-1669)": (
                lambda: hdf5(Group({"x": Dataset(UINT8, (4,), files=("/etc/passwd",), claims=4)})),
                "SL812",
            ),
            "a dataset put together from other files": (
                lambda: hdf5(Group({"x": Dataset(UINT8, (4,), virtual=Virtual("../other.h5", "x"))})),
                "SL812",
            ),
            "a shape of terabytes (CVE-2026-0897)": (
                lambda: hdf5(Group({"x": Dataset(FLOAT32, (1 << 40,), None, chunk=(1 << 20,))})),
                "SL813",
            ),
            "a filter that nobody registered": (
                lambda: hdf5(Group({"x": Dataset(FLOAT32, (2,), bytes(8), filters=(40_000,), chunk=(2,))})),
                "SL814",
            ),
            "a pickle that calls `os.system` as an attribute": (lambda: hdf5(Group(attrs={"info": _STREAM})), "SL101"),
            "the same as opaque bytes": (lambda: hdf5(Group({"x": Dataset(opaque(len(_STREAM)), (), _STREAM)})), "SL101"),
        },
    ),
]

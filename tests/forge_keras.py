"""Keras files for tests: configurations as data, in a .keras zip, in HDF5 and as plain JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from tests.forge_hdf5 import FLOAT32, Dataset, Group, Message, hdf5
from tests.forge_zip import Part, forge

__all__ = ["CODE", "bare", "keras", "keras_h5", "layer", "obj", "sequential", "weights"]

CODE = "4wEAAAAAAAAAAAAAAAEAAAADAAAA8wQAAACXAGQAUwApAU6pAHIBAAAA2gF4cwEAAAAg+gVzdGRpbg==\n"
"""Base64 of what `marshal` writes for a code object that returns None. Nothing here ever reads it."""


def obj(module: str | None, name: str, config: Any = None, registered: str | None = None, **more: Any) -> dict[str, Any]:
    """One object as Keras 3 writes it."""
    return {"module": module, "class_name": name, "config": {} if config is None else config, "registered_name": registered, **more}


def layer(name: str = "Dense", **config: Any) -> dict[str, Any]:
    """One of Keras' own layers."""
    return obj("keras.layers", name, {"name": name.lower(), **config})


def sequential(*layers: Any, **more: Any) -> dict[str, Any]:
    """A model of some layers."""
    return obj("keras", "Sequential", {"name": "sequential", "layers": [layer("InputLayer", batch_shape=[None, 8]), *layers]}, **more)


def in_yaml(node: Any, **more: Any) -> bytes:
    """A configuration as `to_yaml` wrote it."""
    return yaml.safe_dump({"backend": "tensorflow", **node, "keras_version": "2.4.0", **more}).encode()


def bare(node: Any) -> Any:
    """The same without modules and registered names, as older versions write it."""
    if isinstance(node, list):
        return [bare(item) for item in node]
    if not isinstance(node, dict):
        return node
    drop = {"module", "registered_name"} if "class_name" in node else set()
    return {key: bare(value) for key, value in node.items() if key not in drop}


def weights(extra: Mapping[str, Any] | None = None) -> bytes:
    """What lies in model.weights.h5."""
    dense = Group({"vars": Group({"0": Dataset(FLOAT32, (8, 2), bytes(64)), "1": Dataset(FLOAT32, (2,), bytes(8))})})
    return hdf5(Group({"layers": Group({"dense": dense}), **(extra or {})}))


def keras(config: Any, members: Mapping[str, bytes] | None = None) -> bytes:
    """A .keras file; `config` is data, text or bytes."""
    raw = config if isinstance(config, bytes) else (config if isinstance(config, str) else json.dumps(config)).encode()
    metadata = b'{"keras_version": "3.15.1", "date_saved": "2026-11-26@15:54:14"}'
    parts = {"metadata.json": metadata, "config.json": raw, "model.weights.h5": weights(), **(members or {})}
    return forge(*(Part(name, data) for name, data in parts.items()))


def keras_h5(config: Any, training: Any = None, extra: tuple[Message, ...] = ()) -> bytes:
    """A model in HDF5, as Keras 2 writes it."""
    attrs: dict[str, object] = {"keras_version": "2.15.0", "backend": "tensorflow", "model_config": json.dumps(config)}
    if training is not None:
        attrs["training_config"] = json.dumps(training)
    kernel = Group({"dense": Group({"kernel:0": Dataset(FLOAT32, (8, 2), bytes(64))})})
    return hdf5(Group({"model_weights": Group({"dense": kernel})}, attrs, extra))

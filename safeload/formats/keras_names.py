"""What Keras' configurations may name: which classes and functions are Keras' own, and which of its own do more than compute.

A configuration names an object by module and class ("keras.layers", "Dense"), in files of older versions by class alone. Keras'
namespaces of layers, losses, optimizers and so on hold classes whose arguments are numbers, texts and further objects of that
kind: a name of that shape is known. Everything else is judged by what is known of globals (`walk.names`), or is not judged.
Sources: keras/src/saving/serialization_lib.py, keras/src/legacy/saving, tf_keras' and TensorFlow's layers of operations.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Final

from safeload.findings import Level, escape
from safeload.lean_dataclass import dataclass
from safeload.walk.names import deceptive, know

__all__ = ["Verdict", "judge_class", "judge_function", "judge_operation", "judge_symbol"]

_OBJECTS: Final = frozenset(
    {"layers", "models", "optimizers", "losses", "metrics", "initializers", "regularizers", "constraints", "activations",
     "dtype_policies", "quantizers", "mixed_precision", "engine", "ops", "random", "premade_models", "feature_column"}
)  # fmt: skip
"""Namespaces below keras (or keras.src, tf_keras.src, …) whose classes a configuration may name."""

_FUNCTIONS: Final = frozenset({"activations", "losses", "metrics", "initializers", "regularizers", "constraints", "ops", "nn", "random"})
"""Namespaces whose functions are arithmetic: what an Activation, a loss or a Lambda layer may name."""

_REACHING: Final = frozenset(
    {"get", "deserialize", "serialize", "from_config", "load_model", "save_model", "model_from_json", "model_from_config", "clone_model"}
)
"""Functions of any of these namespaces that make objects of a configuration, or files: none of them computes."""

_ELSEWHERE: Final = re.compile(r"utils\.FeatureSpace\Z|backend\.[a-z]+\.optimizers\.[a-z_]+\.[A-Za-z0-9]+\Z")
"""Classes of models that Keras keeps in other namespaces."""

_ROOTS: Final = re.compile(
    r"(?:keras|tf_keras|keras_core|tensorflow\.keras|tensorflow\.python\.keras|tensorflow\.compat\.v[12]\.keras)(?:\.|\Z)"
    r"(?:_tf_keras\.keras(?:\.|\Z)|src(?:\.|\Z)|api(?:\._v[12]\.keras)?(?:\.|\Z))?(?:_?legacy(?:\.|\Z))?"
)
_PLUGINS: Final = re.compile(r"(?:keras_hub|keras_nlp|keras_cv|keras_rs|keras_tuner|tensorflow_addons|tensorflow_probability)(?:\.|\Z)")
_CLASS: Final = re.compile(r"[A-Z][A-Za-z0-9]*\Z")
_IDENTIFIER: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_MODULE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*\Z")

# Names below tf. that a layer of operations may apply: arithmetic on tensors.
_TENSOR_OPS: Final = frozenset(
    {"math", "nn", "linalg", "image", "strings", "sets", "signal", "sparse", "random", "bitwise", "quantization", "__operators__", "dtypes",
     "compat", "ragged", "nest", "experimental", "raw_ops", "keras.backend", "keras.activations", "keras.losses", "keras.metrics"}
)  # fmt: skip
_TENSOR_REACHING: Final = re.compile(
    r"(?:.*\.)?(?:io|py_function|numpy_function|py_func|load_library|load_op_library|load_file_system_library|saved_model|data"
    r"|debugging|summary|train|distribute|config|autograph|autodiff|compat\.v1\.py_func|sysconfig|test|tpu|profiler|function|module|feature_column"
    r"|print|read_file|write_file|import_graph_def|lookup|queue|estimator|gfile|io_gfile|eager_py_func|keras\.utils|keras\.models|keras\.saving"
    r"|keras\.datasets|keras\.applications|keras\.preprocessing|keras\.callbacks|keras\.config)(?:\..*|\Z)"
)

_OPERATIONS: Final = re.compile(
    r"(?:ReadFile|WriteFile|MatchingFiles|PyFunc|PyFuncStateless|EagerPyFunc|Save(?:V2|Slices)?|Restore(?:V2|Slice)?|Print(?:V2)?"
    r"|MergeV2Checkpoints|WholeFileReader(?:V2)?|.*Dataset(?:V2)?|LoadAndRemap.*|InitializeTableFromTextFile(?:V2)?)\Z"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a name that a configuration holds.

    Attributes:
        level: ERROR: known to run code or reach out. WARNING: not judged. NOTE: Keras' own.
        reason: Half a sentence.
        rest: For one of Keras' own classes, its name without version and namespace; else "".
    """

    level: Level
    reason: str = ""
    rest: str = ""


_OWN: Final = Verdict(Level.NOTE)


@functools.cache
def _words(key: str) -> frozenset[str]:
    """Names that files of older versions give without a module, from the table beside this file."""
    table = json.loads(Path(__file__).with_name("keras_names.json").read_text("ascii"))
    return frozenset(" ".join(table[key]).split())


def judge_class(module: str | None, name: str) -> Verdict:
    """Say what making an object of this class does.

    Args:
        module: As the configuration has it; None or "" where it names none.
        name: The class.
    """
    if not module:
        # tf_keras registers its own optimizers as if they were custom: "Custom>Adam".
        bare = name.removeprefix("Custom>").removeprefix("Keras>")
        if bare in _words("classes") or (name == bare and name in _words("operations")):
            return Verdict(Level.NOTE, rest=bare)
        return Verdict(Level.WARNING, f"is none of Keras' classes: a custom object '{escape(name, 80)}'")
    within = _below_keras(module)
    if within is None:
        return _foreign(module, name)
    if not _CLASS.match(name) and name not in _words("classes"):
        return _reaching(module, name)
    if within.partition(".")[0] in _OBJECTS or _ELSEWHERE.match(f"{within}.{name}") or (not within and name in _words("classes")):
        return Verdict(Level.NOTE, rest=name)
    return Verdict(Level.WARNING, f"names {escape(f'{module}.{name}', 120)}, which is none of the classes that a model is made of")


def judge_function(module: str | None, name: str) -> Verdict:
    """Say what calling this function does, as `judge_class` for classes."""
    if not module or module == "builtins":
        if name in _words("functions"):
            return _OWN
        if know("builtins", name).level is Level.ERROR:
            return _foreign("builtins", name)
        return Verdict(Level.WARNING, f"is none of Keras' functions: a custom function '{escape(name, 80)}'")
    within = _below_keras(module)
    if within is None:
        return _foreign(module, name)
    if within.partition(".")[0] in _FUNCTIONS and _IDENTIFIER.match(name) and name not in _REACHING:
        return _OWN
    if within.partition(".")[0] in _OBJECTS and _CLASS.match(name):
        return _OWN  # a class in place of a function: made on call, of tensors
    return _reaching(module, name)


def judge_symbol(name: str) -> Verdict:
    """Say what applying the TensorFlow symbol `tf.<name>` does, which a layer of operations names."""
    if _TENSOR_REACHING.match(name) or (name.startswith("raw_ops.") and judge_operation(name[8:]).level is Level.ERROR):
        return Verdict(Level.ERROR, f"applies tf.{escape(name, 80)}, which reaches files, processes or Python")
    top, _, rest = name.rpartition(".")
    if (top in _TENSOR_OPS or top.split(".")[0] in _TENSOR_OPS or not top) and (rest in _words("tensor-functions") or top):
        return _OWN
    return Verdict(Level.WARNING, f"applies tf.{escape(name, 80)}, of which nothing is known")


def judge_operation(op: str) -> Verdict:
    """Say what applying the TensorFlow operation `op` (its name in a graph) does."""
    if _OPERATIONS.match(op):
        return Verdict(Level.ERROR, f"applies the operation {escape(op, 80)}, which reaches files or Python")
    return _OWN


def _below_keras(module: str) -> str | None:
    """What stands behind "keras.", "keras.src." and the like; None for a module that is not Keras'."""
    found = _ROOTS.match(module)
    return None if found is None else module[found.end() :]


def _foreign(module: str, name: str) -> Verdict:
    """A module that is not Keras': what is known of the global decides."""
    shown = escape(f"{module}.{name}", 120)
    known = know(module, name)
    if known.level is Level.ERROR:
        return Verdict(Level.ERROR, f"names {shown}: {known.reason or known.capability}")
    odd = deceptive(module, name)
    if odd is not None and not _MODULE.match(module):
        return Verdict(Level.ERROR, f"names {shown}: {odd}")
    if _PLUGINS.match(module):
        return Verdict(Level.WARNING, f"names {shown}, of a package beside Keras, which is not judged")
    return Verdict(Level.WARNING, f"names {shown}, a custom object in a module that is not Keras'")


def _reaching(module: str, name: str) -> Verdict:
    """Something of Keras that a model has no use for: loading, saving, fetching, settings, data sets."""
    shown = escape(f"{module}.{name}", 120)
    return Verdict(Level.ERROR, f"names {shown}, which is no layer, loss or function of a model: it may load, fetch or unpack files")

"""MLflow's `MLmodel`: the file of a model's directory that says which loader reads it, and which code is imported for that.

Nothing in it is a model; all of it decides what runs. A loader of MLflow's own reads the files beside, which are judged by themselves.
Code from the directory, classes by name and paths that lead out of the directory are told here.
Source: mlflow/models/model.py, mlflow/pyfunc/__init__.py and the flavours' `_load_model`, as of MLflow 3.17.
"""

from __future__ import annotations

import re
from typing import Any, Final

from safeload.errors import MalformedError
from safeload.findings import Level, escape
from safeload.formats.base import Contents
from safeload.formats.code_text import note_code
from safeload.formats.config_names import judge_name, judge_path
from safeload.formats.container import Notes
from safeload.formats.polyglot import second_stream
from safeload.formats.skops_names import is_known
from safeload.formats.yaml_tree import LARGEST, YamlDocument, mappings_in, parse_yaml, scalars_in
from safeload.source import Reading, Source
from safeload.walk.names import know

__all__ = ["MLmodelFile"]

_MARK: Final = re.compile(rb"""(?:^|[{,])\s*["']?flavors["']?\s*:""", re.MULTILINE)
_OWN_LOADER: Final = re.compile(r"mlflow(?:\.[a-z_][a-z0-9_]*)+\Z")
_CLASSES: Final = re.compile(
    r"(?:xgboost|lightgbm|catboost|sklearn|keras|tensorflow|torch|transformers|sentence_transformers)\.(?:\w+\.)*[A-Z]\w*\Z"
)
# Keys whose value is a file or directory beside the MLmodel.
_PATHS: Final = frozenset(
    """code data model_path model_data model_code_path pickled_model python_model python_env conda virtualenv saved_model_dir model_dir
    model_file path data_path tokenizer_path agent_path chain_path config_path model_config_path resources_file extra_files
    requirements_file state_dict requirements prompt_template_path model_binary""".split()  # noqa: SIM905 - a table for people
)
# Keys whose value is imported, or looked up and called.
_IMPORTED: Final = frozenset(("model_class", "keras_module", "model_module", "pickle_module", "pickle_module_name", "class_name"))
_CODE: Final = {
    "code": "the directory's own code is put in front of all modules",
    "model_code_path": "a Python file is run to make the model",
}


class MLmodelFile:
    """The format "mlmodel"."""

    name: Final = "mlmodel"

    def claims(self, source: Source) -> bool:
        """A mapping whose flavours are mappings, or a text that cannot be parsed and begins one."""
        if not 0 < source.size <= LARGEST or _MARK.search(data := _plain(source)) is None:
            return False
        documents, problem = _parsed(source)
        if not documents:
            return problem is not None and re.search(rb"^flavors\s*:", data, re.MULTILINE) is not None
        return any(isinstance(_flavors(document.root), dict) for document in documents)

    def read(self, source: Source, reading: Reading) -> Contents:
        """Judge every name and path in it."""
        contents = Contents(format=self.name)
        second_stream(source, reading, contents)
        notes = Notes(None)
        documents, problem = _parsed(source)
        if problem is not None:
            notes.add("SL862", problem)
            contents.error = problem
        else:
            contents.end = source.size
        for document in documents:
            _judge(document, notes)
            note_code(notes, scalars_in(document.root))
        root = documents[0].root if documents else None
        flavors = _flavors(root)
        if isinstance(root, dict) and isinstance(flavors, dict):
            contents.metadata["flavors"] = ", ".join(escape(name, 40) for name in list(flavors)[:8])
            if isinstance(root.get("mlflow_version"), str):
                contents.metadata["mlflow-version"] = escape(root["mlflow_version"], 40)
        contents.findings += notes.done()
        return contents


def _plain(source: Source) -> bytes:
    """The text without a byte order mark and without the zeros between the letters of UTF-16."""
    return bytes(source.view(0, source.size)).replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe")


def _parsed(source: Source) -> tuple[list[YamlDocument], str | None]:
    found: tuple[list[YamlDocument], str | None] | None = source.parsed.get("yaml")
    if found is None:
        try:
            found = parse_yaml(bytes(source.view(0, source.size)))
        except MalformedError as error:
            found = [], error.message
        source.parsed["yaml"] = found
    return found


def _flavors(root: Any) -> Any:
    return root.get("flavors") if isinstance(root, dict) else None


def _judge(document: YamlDocument, notes: Notes) -> None:
    if document.repeated:
        named = ", ".join(f"'{escape(key, 40)}'" for key in document.repeated)
        notes.add("SL862", f"keys that stand twice in one mapping, and readers differ in which one they take: {named}")
    for tag, _ in document.tags:
        notes.add("SL862", f"a tag that MLflow does not write: {escape(tag, 120)}")
    for path, mapping in mappings_in(_flavors(document.root)):
        for key, value in mapping.items():
            where = f"flavors.{path}.{key}" if path else f"flavors.{key}"
            texts = value if isinstance(value, list) else [value]
            for text in texts:
                if isinstance(text, str) and text not in ("null", "~", ""):
                    _value(key, text, escape(where, 120), notes)


def _value(key: str, text: str, where: str, notes: Notes) -> None:
    """Judge one text by what MLflow does with it."""
    if key in _CODE:
        notes.add("SL861", f"{where} is '{escape(text, 80)}': {_CODE[key]}")
    if key in _PATHS:
        judge_path(notes, where, text)
    if key == "loader_module":
        _loader(text, where, notes)
    elif key in _IMPORTED:
        name = text if "." in text else f"{text}.__init__"
        judge_name(notes, where, name if key == "model_class" else text, known=_CLASSES)
    elif key == "skops_trusted_types":
        module, _, name = text.rpartition(".")
        if not is_known(module, name):
            judge_name(notes, where, text, known=_CLASSES)
    elif key == "predict_fn" and (not text.isidentifier() or text.startswith("_")):
        notes.add("SL861", f"{where} is '{escape(text, 80)}', which is fetched from the model and called", level=Level.ERROR)


def _loader(text: str, where: str, notes: Notes) -> None:
    """The module whose `_load_pyfunc` is called."""
    shown = f"{where} is {escape(text, 120)}"
    if _OWN_LOADER.match(text):
        return
    module, _, name = text.rpartition(".")
    knowledge = know(module or text, name or "_load_pyfunc")
    whole = know(text, "_load_pyfunc")
    worst = next((one for one in (knowledge, whole) if one.level is Level.ERROR), None)
    if worst is not None or not re.fullmatch(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", text):
        reason = f": {worst.reason}" if worst is not None and worst.reason else ", no name of a module"
        notes.add("SL861", f"{shown}{reason}", level=Level.ERROR)
    else:
        notes.add("SL861", f"{shown}, a module that is none of MLflow's and is imported to load the model")

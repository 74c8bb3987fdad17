"""Configurations of a hub's repository: JSON in which a library finds the names of code that it imports or fetches.

transformers takes classes by `auto_map` from Python files beside the weights, or from another repository; sentence-transformers,
diffusers and PEFT import what their lists of modules name. None of it is in the weights, and most of it runs only for somebody who said
`trust_remote_code`; but it is why a directory of clean weights may still run code.
Sources: transformers/dynamic_module_utils.py and integrations/hub_kernels.py, sentence_transformers/SentenceTransformer.py and
models/Dense.py, diffusers/pipelines/pipeline_loading_utils.py, peft/auto.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from safeload.findings import Finding, Level, escape
from safeload.formats.chat_template import judge_template
from safeload.formats.config_names import leaves_directory
from safeload.formats.container import Notes
from safeload.formats.json_tree import Document
from safeload.walk.names import know

__all__ = ["Look", "judge_config", "judge_import", "templates_in"]

_NODES: Final = 2_000_000
_REFERENCE: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+\Z")
_ELSEWHERE: Final = "--"
_KERNELS: Final = re.compile(r"_?(?:attn|experts)_implementation(?:_internal)?\Z")
_OWN: Final = ("sentence_transformers.", "diffusers.", "transformers.models.", "transformers.modeling_", "peft.")
_ACTIVATIONS: Final = re.compile(r"torch\.nn\.(?:modules\.[a-z]+\.)?[A-Z]\w*\Z")
# Directories of pipelines inside diffusers, which its index of a model names like libraries.
_PIPELINES: Final = frozenset(
    """stable_diffusion stable_diffusion_xl stable_diffusion_3 stable_diffusion_safe stable_cascade stable_audio stable_video_diffusion
    alt_diffusion latent_diffusion paint_by_example versatile_diffusion unidiffuser unclip kandinsky kandinsky2_2 kandinsky3 deepfloyd_if
    wuerstchen wurstchen audioldm audioldm2 musicldm shap_e semantic_stable_diffusion flux hunyuandit pixart_alpha lumina latte sana
    cogvideo cogview3 aura_flow ledits_pp animatediff text_to_video_synthesis blip_diffusion bria omnigen ltx mochi allegro wan
    hunyuan_video hidream_image chroma consisid easyanimate visualcloze i2vgen_xl controlnet controlnet_xs pag marigold ddim ddpm
    dance_diffusion dit score_sde_ve spectrogram_diffusion deprecated onnxruntime onnx""".split()  # noqa: SIM905 - a table for people
)
# Lists of two texts that components (a U-Net, an autoencoder) have in their own configurations: blocks and functions, no library and
# class. No pipeline of diffusers takes a component of such a name.
_BLOCKS: Final = re.compile(r"\w+_(?:types|fns)\Z")
_LIBRARIES: Final = re.compile(r"(?:diffusers|transformers|sentence_transformers|optimum|peft)(?:\.[a-z_0-9]+)*\Z")


Look = Callable[[str], str | None]
"""Takes the name of a module beside the configuration, and says what its code is known to do; None when nothing is known."""


def judge_config(document: Document, look: Look) -> tuple[list[Finding], str | None]:
    """Say which code a configuration names, and what its templates reach for.

    Args:
        document: The configuration.
        look: Looks at the code that it names.

    Returns:
        The findings, and why something in it could not be judged, or None.
    """
    notes = Notes(None)
    root = document.root
    if isinstance(root, list):
        _modules(notes, root)
    elif isinstance(root, dict):
        _pipeline(notes, root, look)
        _router(notes, root)
    problem = None
    todo = [root]
    for _ in range(_NODES):
        if not todo:
            break
        node = todo.pop()
        if isinstance(node, dict):
            _object(notes, node, look)
        if isinstance(node, (dict, list)):
            todo += (item for item in (node.values() if isinstance(node, dict) else node) if isinstance(item, (dict, list)))
    else:
        notes.add("SL828", f"more than {_NODES} nodes; the rest was not looked at", level=Level.WARNING)
    findings = notes.done()
    for text in templates_in(root):
        found, why = judge_template(text)
        findings += found
        problem = problem or why
    if document.repeated and any(item.level is not Level.NOTE for item in findings):
        shown = ", ".join(f"'{escape(key, 40)}'" for key in document.repeated)
        findings.append(Finding(rule="SL828", level=Level.WARNING, message=f"keys that stand twice in one object: {shown}"))
    return findings, problem


def templates_in(root: Any) -> Iterator[str]:
    """Yield the chat templates of a tokenizer's or processor's configuration: one, or several with names."""
    held = root.get("chat_template") if isinstance(root, dict) else None
    for item in held if isinstance(held, list) else held.values() if isinstance(held, dict) else [held]:
        text = item.get("template") if isinstance(item, dict) else item
        if isinstance(text, str):
            yield text


def _object(notes: Notes, node: Mapping[str, Any], look: Look) -> None:
    for key, value in node.items():
        if key == "auto_map":
            for label, reference in _texts(value):
                _code(notes, label or "auto_map", reference, look)
        elif key == "custom_pipelines" and isinstance(value, dict):
            for label, held in value.items():
                if isinstance(held, dict) and isinstance(held.get("impl"), str):
                    _code(notes, f"the pipeline {label}", held["impl"], look)
        elif key == "trust_remote_code" and (value is True or (isinstance(value, str) and value.lower() == "true")):
            notes.add("SL827", "the configuration sets trust_remote_code")
        elif key == "custom_generate" and isinstance(value, str):
            _code(notes, "custom_generate", value, look)
        elif key == "auto_mapping" and isinstance(value, dict) and isinstance(value.get("parent_library"), str):
            _library(notes, value["parent_library"], str(value.get("base_model_class")))
        elif _KERNELS.match(key):
            for kernel in value.values() if isinstance(value, dict) else (value,):  # one for each part of a model
                if isinstance(kernel, str) and "/" in kernel:
                    text = f"'{escape(key, 40)}' is '{escape(kernel, 120)}': native code of another repository, fetched with the model"
                    notes.add("SL822", text)
        elif key == "activation_function" and isinstance(value, str) and "." in value:
            judge_import(notes, key, value, known=_ACTIVATIONS)
        elif key == "transformers_weights" and isinstance(value, str) and leaves_directory(value):
            notes.add("SL824", f"the weights '{escape(value, 120)}' lie outside of the directory")
        elif key == "weight_map" and isinstance(value, dict):
            _shards(notes, value)
        elif key == "itemInfoEntries" and isinstance(value, dict):  # the manifest of a Core ML package
            paths = [held.get("path") for held in value.values() if isinstance(held, dict)]
            for path in paths:
                if isinstance(path, str) and leaves_directory(path):
                    notes.add("SL824", f"the package's item '{escape(path, 120)}' lies outside of the package")
        elif key == "_target_" and isinstance(value, str) and know(*_split(value)).level is Level.ERROR:
            judge_import(notes, key, value)


def _shards(notes: Notes, table: Mapping[str, Any]) -> None:
    """The files of an index that its own reader did not claim."""
    names = {name for value in table.values() for name in (value if isinstance(value, list) else [value]) if isinstance(name, str)}
    for name in sorted(names):
        if leaves_directory(name):
            notes.add("SL824", f"the shard '{escape(name, 120)}' lies outside of the directory")


def _texts(value: Any) -> Iterator[tuple[str, str]]:
    """(key, text) of an `auto_map`: an object of texts or of pairs, or in old files a pair alone."""
    items = value.items() if isinstance(value, dict) else [("", value)]
    for key, held in items:
        yield from ((str(key), text) for text in (held if isinstance(held, list) else [held]) if isinstance(text, str))


def _code(notes: Notes, label: str, reference: str, look: Look) -> None:
    """Code that is named by file and class, here or in another repository."""
    shown = f"{escape(label, 60)} is {escape(reference, 120)}"
    if _ELSEWHERE in reference:
        notes.add("SL822", f"{shown}: code of another repository, which is fetched")
    elif "/" in reference or "\\" in reference or ".." in reference:
        notes.add("SL824", f"{shown}, which leads out of the directory")
    else:
        odd = "" if _REFERENCE.match(reference) else ", no name of a module and a class"
        does = None if odd else look(reference.partition(".")[0])
        what = f", which {does}" if does is not None else odd
        notes.add("SL821", f"{shown}, code in the same directory{what}", level=None if does is None else Level.ERROR)


def _library(notes: Notes, library: str, name: str) -> None:
    """Where PEFT imports the base model's class from."""
    if library.partition(".")[0] == "transformers_modules":
        notes.add("SL821", f"the base model's class is {escape(f'{library}.{name}', 120)}, code that came with a model")
    else:
        judge_import(notes, "parent_library", f"{library}.{name}")


def judge_import(notes: Notes, label: str, dotted: str, *, known: re.Pattern[str] | None = None) -> None:
    """Say what importing a dotted name reaches (SL823); a library's own classes are passed by."""
    shown = f"'{escape(label, 60)}' is {escape(dotted, 120)}"
    found = know(*_split(dotted))
    if found.level is Level.ERROR:
        notes.add("SL823", f"{shown}: {found.reason or found.capability}")
    elif not dotted.startswith(_OWN) and not (known is not None and known.match(dotted)):
        notes.add("SL823", f"{shown}, which is imported and is none of the library's own", level=Level.WARNING)


def _split(dotted: str) -> tuple[str, str]:
    module, _, name = dotted.rpartition(".")
    return module or dotted, name


# ---- lists of modules


def _modules(notes: Notes, root: list[Any]) -> None:
    """sentence-transformers' modules.json."""
    for node in root[:1000]:
        if not isinstance(node, dict) or not isinstance(node.get("type"), str) or not isinstance(node.get("path"), str):
            continue
        judge_import(notes, "type", node["type"])
        path = node["path"]
        if path.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", path) or ":" in path:
            notes.add("SL824", f"the module's directory '{escape(path, 120)}' lies outside of the model's")


def _router(notes: Notes, root: Mapping[str, Any]) -> None:
    """sentence-transformers' router_config.json."""
    types = root.get("types")
    if isinstance(types, dict) and "structure" in root:
        for value in types.values():
            if isinstance(value, str) and "." in value:
                judge_import(notes, "types", value)


def _pipeline(notes: Notes, root: Mapping[str, Any], look: Look) -> None:
    """diffusers' model_index.json."""
    name = root.get("_class_name")
    if isinstance(name, list):
        _code(notes, "the pipeline", ".".join(str(part) for part in name), look)
    if name is None:
        return
    sure = "_diffusers_version" in root  # diffusers itself does not ask for it; without it only what is dangerous counts
    for key, value in root.items():
        if key.startswith("_") or not isinstance(value, list) or len(value) != 2 or not all(isinstance(part, str) for part in value):
            continue
        library, class_name = value
        ordinary = library in _PIPELINES or _LIBRARIES.match(library) or _BLOCKS.match(key)
        if (ordinary or not sure) and know(library, class_name).level is not Level.ERROR:
            continue
        judge_import(notes, key, f"{library}.{class_name}")

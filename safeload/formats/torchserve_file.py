"""TorchServe's model archives (`.mar`): a zip or tar whose manifest names the handler that the server imports and runs.

A handler of TorchServe's own reads the weights beside it, which are judged by themselves. Everything else in Python that the archive
brings is code that runs in the server: it can be told, and not judged.
Source: serve/model-archiver/model_archiver, serve/ts/model_loader.py; CVE-2023-48299 for names that climb out of the archive.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import Any, Final

from safeload.errors import MalformedError, SafeloadError
from safeload.findings import escape
from safeload.formats.base import Contents
from safeload.formats.config_names import judge_name, judge_path, leaves_directory
from safeload.formats.container import Archive, Member, Notes
from safeload.formats.first_bytes import looks_like_zip
from safeload.formats.json_tree import parse_json
from safeload.formats.python_source import LARGEST, dangerous_calls
from safeload.formats.zip_container import archive_of, read_member
from safeload.formats.zip_file import read_zip
from safeload.source import Limits, Reading, Source

__all__ = ["MANIFEST", "TorchServeFile", "is_manifest", "judge_archive"]

MANIFEST: Final = "MAR-INF/MANIFEST.json"
_LARGEST: Final = 1 << 20
_SOURCES: Final = 2_000
_TEXT_BYTES: Final = 1 << 20
_OWN_HANDLERS: Final = frozenset(
    ("image_classifier", "image_segmenter", "object_detector", "text_classifier", "text_handler", "vision_handler", "base_handler",
     "densenet_handler", "dali_image_classifier", "micro_batching")
)  # fmt: skip
_FILES: Final = ("serializedFile", "modelFile", "requirementsFile", "configFile", "extraFiles")
_NATIVE: Final = re.compile(r".*\.(?:so(?:\.\d+)*|dll|dylib|pyd|exe|sh|bash|bat|cmd|ps1|pyc|pyo|jar|class|whl|egg)\Z", re.IGNORECASE)


class TorchServeFile:
    """The format "torchserve"."""

    name: Final = "torchserve"

    def claims(self, source: Source) -> bool:
        """A zip with a manifest where TorchServe looks for it."""
        return looks_like_zip(source) and _manifest(archive_of(source, Limits())) is not None

    def read(self, source: Source, reading: Reading) -> Contents:
        """Read the archive, every member as a file of its own, and judge the manifest and the code."""
        archive = archive_of(source, reading.limits)
        manifest = _manifest(archive)
        contents = read_zip(source, reading, self.name, known=[manifest] if manifest is not None else [])
        judge_archive(archive, lambda member: read_member(source, member, reading.limits), contents)
        return contents


def _manifest(archive: Archive) -> Member | None:
    """The manifest: where TorchServe looks, or where unpacking the archive somewhere would put it."""
    found = archive.by_name.get(MANIFEST)
    return found if found is not None else next((one for one in archive.members if is_manifest(one.name)), None)


def is_manifest(name: str) -> bool:
    """Whether a member's name is that of a manifest, when the archive is unpacked anywhere; tar archives have a directory around it."""
    path = posixpath.normpath(name.replace("\\", "/")).lower()
    return path.removeprefix(f"{path.partition('/')[0]}/" if path.count("/") == 2 else "") == MANIFEST.lower()


def judge_archive(archive: Archive, read: Callable[[Member], memoryview], contents: Contents) -> None:
    """Judge the manifest of a model archive and the code in it; does nothing for an archive without a manifest.

    Args:
        archive: A zip's or a tar's structure.
        read: Gives a member's bytes.
        contents: Takes findings.
    """
    manifest = _manifest(archive)
    if manifest is None:
        return
    notes = Notes(None)
    names = {posixpath.normpath(member.name) for member in archive.members}
    try:
        if manifest.region.nbytes > _LARGEST:
            raise MalformedError(f"the manifest has {manifest.region.nbytes} bytes; at most {_LARGEST} are read")
        document = parse_json(read(manifest), _LARGEST, "the manifest")
        if document.repeated:
            shown = ", ".join(f"'{escape(key, 40)}'" for key in document.repeated)
            notes.add("SL865", f"keys that stand twice in one object: {shown}", name=manifest.name)
        _model(document.root, names, manifest.name, notes, contents)
    except SafeloadError as error:
        notes.add("SL865", error.message, name=manifest.name)
        contents.error = contents.error or f"{manifest.name}: {error.message}"
    _code(archive, read, notes)
    contents.findings += notes.done()


def _model(root: Any, names: set[str], where: str, notes: Notes, contents: Contents) -> None:
    """Judge what the manifest says of the model."""
    model = root.get("model") if isinstance(root, dict) else None
    if not isinstance(model, dict):
        raise MalformedError("the manifest describes no model")
    own = Notes(None)
    for field in _FILES:
        held = model.get(field)
        for text in (str(part).strip() for part in (held if isinstance(held, list) else str(held or "").split(","))):
            judge_path(own, f"model.{field}", text)
            if text and leaves_directory(text) is None and not _lies_in(text, names):
                own.add("SL865", f"model.{field} is '{escape(text, 80)}', and there is no such member")
    handler = model.get("handler")
    if isinstance(handler, str):
        contents.metadata["handler"] = escape(handler, 80)
        _handler(handler, names, own)
    elif handler is not None:
        own.add("SL865", "the handler is no text")
    for item in own.done():
        notes.add(item.rule, item.message, name=where, level=item.level)


def _lies_in(text: str, names: set[str]) -> bool:
    path = posixpath.normpath(text)
    return path in names or any(name.startswith(f"{path}/") for name in names) or any(posixpath.basename(name) == path for name in names)


def _handler(handler: str, names: set[str], notes: Notes) -> None:
    """The module, and perhaps the function or class in it, that the server imports."""
    module, _, entry = handler.partition(":")
    file = module if module.endswith(".py") else f"{module.replace('.', '/')}.py"
    judge_path(notes, "model.handler", module)
    if leaves_directory(module) or module in _OWN_HANDLERS:
        return
    if _lies_in(file, names):
        notes.add("SL863", f"the handler is '{escape(handler, 80)}', code of the archive that the server runs")
    elif not module.endswith(".py") and re.fullmatch(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", module):
        judge_name(notes, "model.handler", f"{module}.{entry or 'handle'}")
    else:
        notes.add("SL865", f"the handler is '{escape(handler, 80)}', and there is no such member")


def _code(archive: Archive, read: Callable[[Member], memoryview], notes: Notes) -> None:
    """Name every file that can run, and look at what Python sources call."""
    sources = [member for member in archive.members if member.name.lower().endswith((".py", ".pyw")) and not member.is_dir]
    left = _TEXT_BYTES
    for member in sources[:_SOURCES]:
        notes.add("SL863", "Python code that the archive brings", name=member.name)
        left -= member.region.nbytes
        if member.problem is not None or member.region.nbytes > LARGEST or left < 0:
            continue
        try:
            text = bytes(read(member)).decode("utf-8-sig", "replace")
        except SafeloadError:
            continue  # the archive's own findings say why
        for line, what in dangerous_calls(text):
            notes.add("SL864", f"line {line} {what}", name=member.name)
    for member in archive.members:
        if _NATIVE.match(member.name):
            notes.add("SL863", "a program or a library that the archive brings", name=member.name)



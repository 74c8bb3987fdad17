"""Files of a hub's repository that are no weights and still decide what runs: configurations, templates, lists of requirements.

Most of them ask for nothing. Such a file is no model, and nobody claims it; only one that names code, reaches out or cannot be judged
is claimed, by what it says and never by its name.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Final

from safeload.errors import MalformedError, SafeloadError
from safeload.findings import Level, escape
from safeload.formats.base import Contents
from safeload.formats.chat_template import judge_template
from safeload.formats.container import Notes
from safeload.formats.hub_config import judge_config
from safeload.formats.json_tree import parse_json
from safeload.formats.python_source import LARGEST, dangerous_calls
from safeload.source import Reading, Source

__all__ = ["ConfigFile", "RequirementsFile", "TemplateFile"]

_LARGEST: Final = 64 << 20
_TEXT: Final = 1 << 20
_HEAD: Final = 512
# A name of code can only be in a text that has one of these, or hides a letter behind an escape.
_NAMES: Final = re.compile(
    rb'"(?:auto_map|custom_pipelines|trust_remote_code|auto_mapping|custom_generate|_class_name|_target_|chat_template|activation_function'
    rb'|structure|weight_map|transformers_weights|itemInfoEntries|_?(?:attn|experts)_implementation(?:_internal)?)"|\\u00[0-7]'
)
_CODE: Final = re.compile(rb'"(?:auto_map|custom_pipelines|trust_remote_code)"')
_MODULES: Final = re.compile(rb'"type"|\\u00[0-7]')


class _Claimed:
    """A reader of files that are claimed only when something is found in them."""

    name = ""

    def claims(self, source: Source) -> bool:
        """Whether there is something to say about it above level note."""
        contents = self._judged(source)
        return contents is not None and (contents.error is not None or any(item.level is not Level.NOTE for item in contents.findings))

    def read(self, source: Source, reading: Reading) -> Contents:
        """Return what was found for the claim."""
        contents = self._judged(source)
        return Contents(format=self.name) if contents is None else contents

    def _judged(self, source: Source) -> Contents | None:
        if self.name not in source.parsed:
            source.parsed[self.name] = self.judge(source)
        found: Contents | None = source.parsed[self.name]
        return found

    def judge(self, source: Source) -> Contents | None:
        """Look at the file; None when it is of another kind."""
        raise NotImplementedError


class ConfigFile(_Claimed):
    """The format "config": JSON that names code."""

    name = "config"

    def judge(self, source: Source) -> Contents | None:
        """Parse a JSON text that may name code."""
        first = source.head(_HEAD).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        if first not in (b"{", b"["):
            return None
        contents = Contents(format=self.name)
        data = bytes(source.view(0, min(source.size, _LARGEST)))
        if (_NAMES if first == b"{" else _MODULES).search(data) is None:
            return None
        try:
            if source.size > _LARGEST:
                if first == b"[" or _CODE.search(data) is None:
                    return None  # data, as far as can be seen: no library reads so large a configuration
                raise MalformedError(f"the configuration has {source.size} bytes; at most {_LARGEST} are read")
            document = parse_json(data, _LARGEST, "the configuration")
        except MalformedError as error:
            # No library reads it either; one that only begins like JSON is text.
            if source.size > _LARGEST or "nested" in error.message:
                notes = Notes(None)
                notes.add("SL828", error.message)
                contents.findings = notes.done()
                return contents
            return None
        contents.findings, contents.error = judge_config(document, lambda module: _code_beside(source, module))
        return contents


def _code_beside(source: Source, module: str) -> str | None:
    """What the code of a module in the same directory is known to do; None for a member of an archive, which has none."""
    if source.path is None:
        return None
    path = Path(source.path).parent / f"{module}.py"
    try:
        info = path.lstat()
        if not stat.S_ISREG(info.st_mode) or info.st_size > LARGEST:
            return None
        with Source.open(path) as code:
            calls = dangerous_calls(bytes(code.view(0, code.size)).decode("utf-8", "replace"))
    except (OSError, SafeloadError):
        return None
    return next((f"{what} in line {line} of {escape(module, 60)}.py" for line, what in calls), None)


_CONVERSATION: Final = re.compile(r"\bmessages\b")


class TemplateFile(_Claimed):
    """The format "chat-template": a Jinja template as a file of its own."""

    name = "chat-template"

    def judge(self, source: Source) -> Contents | None:
        """Judge a text that begins with a tag."""
        text = _text(source)
        if text is None or not text.lstrip().startswith(("{%", "{{", "{#")):
            return None
        contents = Contents(format=self.name)
        contents.findings, contents.error = judge_template(text)
        # Templates of other languages (Go's, for one) look like Jinja's and are none of its conversations.
        unread = contents.error is not None or all(item.rule == "SL707" for item in contents.findings)
        return None if unread and _CONVERSATION.search(text) is None else contents


# ---- requirements

_BLANK: Final = re.compile(r"\s*(?:#.*)?\Z")
_NAMED: Final = re.compile(r"\s*[A-Za-z0-9][A-Za-z0-9._-]*\s*(?:\[[^\]]*\])?\s*(?:[=<>!~;(#].*)?\Z")
_AT: Final = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*@\s*(\S+)")
_ADDRESS: Final = re.compile(r"\s*(?:-e\s+|--editable[ =])?((?:git|hg|svn|bzr)\+\S+|(?:https?|ftp|file):\S+\.(?:whl|zip|tar\.gz|tgz)\b\S*)")
_PATH: Final = re.compile(r"\s*(?:-e\s+|--editable[ =]|(?=file:))(\S+)")
_OPTION: Final = re.compile(r"\s*--?[a-z][a-z-]*(?:[ =].*)?\Z")
_LIST: Final = re.compile(r"\s*(?:-r|-c|--requirement|--constraint)[ =]*((?:https?|ftp|file):\S+)")
_LOCAL: Final = re.compile(r"\s*(\.{0,2}/\S+|\S+\.(?:whl|zip|tar\.gz|tgz))\s*(?:[;#].*)?\Z")
_LISTS: Final = re.compile(r"(?:[\w.-]*[-_])?(?:requirements|constraints)(?:[-_.][\w.-]*)?\.(?:txt|in|pip)\Z", re.IGNORECASE)
_INSECURE: Final = re.compile(r"\s*(?:--trusted-host|(?:-i|-f|--index-url|--extra-index-url|--find-links)[ =]+(?:http|ftp|file):)")


class RequirementsFile(_Claimed):
    """The format "requirements": a list of packages to install, some of them by address."""

    name = "requirements"

    def judge(self, source: Source) -> Contents | None:
        """Judge a text in which every line is one of pip's; of a file that is named as one, the lines that are."""
        text = _text(source)
        if text is None:
            return None
        named_so = source.path is not None and _LISTS.match(Path(source.path).name) is not None
        notes = Notes(None)
        for line in text.replace("\\\n", " ").splitlines():
            if _BLANK.match(line) or _NAMED.match(line):
                continue
            named = _AT.match(line)
            where = named or _ADDRESS.match(line) or _PATH.match(line) or _LIST.match(line) or (_LOCAL.match(line) if named_so else None)
            if where is not None:
                shown = escape(where[where.lastindex or 0], 120)
                notes.add("SL826", f"'{shown}' is installed from an address{f' as {escape(named[1], 60)}' if named else ''}")
            elif _INSECURE.match(line):
                notes.add("SL826", f"packages are fetched without protection: '{escape(line.strip(), 120)}'")
            elif not _OPTION.match(line) and not named_so:
                return None
        contents = Contents(format=self.name)
        contents.findings = notes.done()
        return contents


def _text(source: Source) -> str | None:
    """A small text, or None."""
    if not 0 < source.size <= _TEXT or b"\0" in source.head(_HEAD):
        return None
    try:
        return bytes(source.view(0, source.size)).decode("utf-8-sig")
    except UnicodeDecodeError:
        return None

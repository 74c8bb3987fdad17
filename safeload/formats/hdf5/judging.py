"""What is made of the values of an HDF5 file: pickle streams are walked, Keras' configurations are judged."""

from __future__ import annotations

from typing import Final

from safeload.findings import escape
from safeload.formats.base import Contents, StreamPart
from safeload.formats.container import Notes
from safeload.formats.keras_config import check_config, looks_like_config
from safeload.formats.streams import looks_like_pickle
from safeload.lean_dataclass import replace
from safeload.source import Reading
from safeload.walk import walk

__all__ = ["Judge"]

_SHORTEST: Final = 3
_CONFIGURATIONS: Final = ("model_config", "training_config")


class Judge:
    """Looks at byte strings, whatever they are called and wherever they stand."""

    def __init__(self, reading: Reading, contents: Contents, notes: Notes) -> None:
        self.reading, self.contents, self.notes = reading, contents, notes

    def look(self, data: bytes, member: str, *, named: str = "") -> None:
        """Look at one value.

        Args:
            data: Its bytes; of a fixed-length text with its padding.
            member: Where it stands, for findings.
            named: The attribute's name; Keras reads its configurations by it.
        """
        if len(data) < _SHORTEST:
            return None
        if named in _CONFIGURATIONS or looks_like_config(data):
            checked = check_config(data.rstrip(b"\0"), self.reading, top=named == "model_config")
            if checked.error is not None and named not in _CONFIGURATIONS:
                return self._stream(data, member)  # no program takes it for one
            self.contents.findings += (replace(item, member=member) for item in checked.findings)
            self.contents.metadata |= checked.metadata
            for part in checked.parts:
                part.member = member if part.member is None else f"{member}!{part.member}"
                self.contents.parts.append(part)
            return None
        return self._stream(data, member)

    def _stream(self, data: bytes, member: str) -> None:
        view = memoryview(data)
        if len(self.contents.parts) >= self.reading.limits.streams or not looks_like_pickle(view):
            return
        walked = walk(view, limits=self.reading.limits, encoding=self.reading.encoding)
        if not walked.globals and (walked.end is None or data[walked.end :].strip(b"\0")):
            return  # text, or bytes that begin like a stream by chance: nothing comes of them
        self.contents.parts.append(StreamPart(member=member, offset=0, data=view, walk=walked))
        self.notes.add("SL816", f"{len(data)} bytes are a pickle stream: {escape(member, 80)}", name=member)

"""SentencePiece's models: a vocabulary as a protocol buffer. Pieces of text and numbers; nothing in them names code.

Source: sentencepiece_model.proto.
"""

from __future__ import annotations

from typing import Final

from safeload.errors import SafeloadError
from safeload.findings import escape
from safeload.formats.base import Contents
from safeload.formats.polyglot import second_stream
from safeload.formats.protobuf_wire import BYTES, FIXED32, VARINT, Wire
from safeload.source import Reading, Source
from safeload.walk import finding

__all__ = ["SentencePieceFile"]

_PIECE: Final = {1: BYTES, 2: FIXED32, 3: VARINT}
_MODEL: Final = {1: "pieces", 2: "trainer_spec", 3: "normalizer_spec", 4: "self_test_data", 5: "denormalizer_spec"}


class SentencePieceFile:
    """The format "sentencepiece"."""

    name: Final = "sentencepiece"

    def claims(self, source: Source) -> bool:
        """A first field that is a piece: a text, and its score as a float."""
        head = source.head(300)
        if head[:1] != b"\n" or len(head) < 8 or head[2:3] != b"\n" or head[1] > 127 or head[3] > 120:
            return False
        behind = 4 + head[3]
        return head[1] >= head[3] + 2 + 5 and head[behind : behind + 1] == b"\x15"

    def read(self, source: Source, reading: Reading) -> Contents:
        """Go through every field; one that the schema does not have is a finding."""
        contents = Contents(format=self.name)
        second_stream(source, reading, contents)
        wire = Wire(source, "SL855")
        pieces, unknown = 0, set()
        try:
            for number, kind, start, end in wire.fields(0, source.size, "the model"):
                if number not in _MODEL or kind != BYTES:
                    unknown.add(f"field {number}")
                elif number == 1:
                    pieces += 1
                    unknown.update(
                        f"field {inner} of a piece" for inner, kind, _, _ in wire.fields(start, end, "a piece") if _PIECE.get(inner) != kind
                    )
            contents.end = source.size
        except SafeloadError as error:
            offset = int(error.where[1:]) if error.where.startswith("@") and error.where[1:].isdigit() else None
            contents.findings.append(finding("SL855", error.message, offset=offset))
            contents.error = f"the model: {error.message}"
        contents.metadata["pieces"] = str(pieces)
        if unknown:
            named = ", ".join(sorted(escape(item, 40) for item in list(unknown)[:8]))
            contents.findings.append(finding("SL855", f"what the schema does not have: {named}"))
        return contents

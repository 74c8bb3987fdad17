"""SentencePiece's models: a vocabulary as a protocol buffer. Pieces of text and numbers; nothing in them names code.

Source: sentencepiece_model.proto.
"""

from __future__ import annotations

from typing import Final

from safeload.formats.base import Contents
from safeload.formats.checked_file import CheckedFile
from safeload.formats.container import Notes
from safeload.formats.protobuf_wire import BYTES, FIXED32, VARINT, Wire
from safeload.source import Source

__all__ = ["SentencePieceFile"]

_PIECE: Final = {1: BYTES, 2: FIXED32, 3: VARINT}
_MODEL: Final = {1: "pieces", 2: "trainer_spec", 3: "normalizer_spec", 4: "self_test_data", 5: "denormalizer_spec"}


class SentencePieceFile(CheckedFile):
    """The format "sentencepiece"."""

    name = "sentencepiece"

    def claims(self, source: Source) -> bool:
        """A first field that is a piece: a text, and its score as a float."""
        head = source.head(300)
        if head[:1] != b"\n" or len(head) < 8 or head[2:3] != b"\n" or head[1] > 127 or head[3] > 120:
            return False
        behind = 4 + head[3]
        return head[1] >= head[3] + 2 + 5 and head[behind : behind + 1] == b"\x15"

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """Go through every field; one that the schema does not have is a finding."""
        wire = Wire(source, "SL855")
        pieces, unknown = 0, set()
        for number, kind, start, end in wire.fields(0, source.size, "the model"):
            if number not in _MODEL or kind != BYTES:
                unknown.add(f"field {number}")
            elif number == 1:
                pieces += 1
                inside = wire.fields(start, end, "a piece")
                unknown.update(f"field {inner} of a piece" for inner, form, _, _ in inside if _PIECE.get(inner) != form)
        contents.end = source.size
        contents.metadata["pieces"] = str(pieces)
        if unknown:
            notes.add("SL855", f"what the schema does not have: {', '.join(sorted(unknown)[:8])}")

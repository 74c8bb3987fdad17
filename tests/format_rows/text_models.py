"""Vocabularies and vectors: msgpack, fastText, word2vec, SentencePiece."""

from __future__ import annotations

from typing import Final

from tests.forge_ggml import ggml
from tests.forge_text_models import fasttext, msgpack, object_array, sentencepiece, word2vec
from tests.formats_page import FormatRow

__all__ = ["ROWS"]

_STREAM: Final = b"cos\nsystem\n(S'true'\ntR."

ROWS: Final = [
    FormatRow(
        format="ggml",
        title="GGML before GGUF",
        written_by="whisper.cpp; llama.cpp and ggml's examples until 2023, their adapters included",
        reads="numbers, vocabulary and every tensor's place to the last byte; of the oldest magic, the forms of the programs named",
        order=12,
        benign={
            "a language model": lambda: ggml(b"tjgg", version=3, scores=True),
            "a speech model": lambda: ggml(numbers=11, counted=True, filters=True),
            "an adapter": lambda: ggml(b"algg", version=1),
        },
        hostile={
            "a tensor behind the end of the file": (lambda: ggml(b"tjgg", version=3, scores=True)[:-1], "SL851"),
            "a vocabulary of 2³² words": (lambda: b"tjgg\3\0\0\0" + b"\xff" * 64, "SL851"),
            "bytes behind the last tensor": (lambda: ggml(b"tjgg", version=3, scores=True) + _STREAM, "SL851"),
        },
    ),
    FormatRow(
        format="msgpack",
        title="msgpack",
        written_by="Flax, spaCy, thinc",
        reads="one value from the first byte to the last, the pickle streams of numpy's arrays of objects in it",
        order=75,
        benign={"weights": lambda: msgpack({"params": {"w": bytes(8)}})},
        hostile={"an array of objects whose stream calls `os.system`": (lambda: msgpack({"w": object_array(_STREAM)}), "SL101")},
    ),
    FormatRow(
        format="fasttext",
        title="fastText",
        written_by="fastText, gensim",
        reads="every size, quantised or not",
        order=76,
        benign={"words": fasttext, "words, quantised": lambda: fasttext(quantised=True)},
        hostile={"a matrix that leaves the file": (lambda: fasttext(rows=1 << 40), "SL851")},
    ),
    FormatRow(
        format="word2vec",
        title="word2vec",
        written_by="word2vec, gensim",
        reads="the first thousand words, the size of the file",
        order=77,
        benign={"words": word2vec},
        hostile={"an archive behind": (lambda: word2vec() + _zip(), "SL213")},
    ),
    FormatRow(
        format="sentencepiece",
        title="SentencePiece",
        written_by="SentencePiece, as `tokenizer.model`",
        reads="every field of the vocabulary",
        order=78,
        benign={"a vocabulary": sentencepiece},
        hostile={"a field that no version has": (lambda: sentencepiece(behind=b"\x7a\x01x"), "SL855")},
    ),
]


def _zip() -> bytes:
    from tests.forge_zip import Part, forge

    return forge(Part("x", _STREAM))

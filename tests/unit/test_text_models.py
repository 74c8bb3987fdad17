"""msgpack, word vectors and SentencePiece: data, but for pickled arrays in msgpack and sizes that leave the file."""

from __future__ import annotations

import pickle

import pytest

import safeload
from safeload.findings import Level, Outcome, Report
from tests.forge_text_models import fasttext, msgpack, object_array, sentencepiece, word2vec

STREAM = b"cos\nsystem\n(S'true'\ntR."


def scanned(data: bytes) -> Report:
    return safeload.scan(data, policy={}, lock=False)


def rules(data: bytes) -> dict[str, Level]:
    return {found.rule: found.level for found in scanned(data).findings if found.level is not Level.NOTE}


EVERYTHING = {
    "a": None, "b": True, "c": 5, "d": -(1 << 40), "e": 1.5, "f": "x" * 40, "g": b"y" * 300, "h": [1, [2, {"i": 3}]],
    "j": {"k": list(range(20))},    "l": {str(number): number for number in range(30)},
}  # fmt: skip
BENIGN = {
    "msgpack": [
        msgpack({"a": 1}),
        msgpack(EVERYTHING),
        b"\x80",
        msgpack({"w": {b"nd": True, b"type": b"<f4", b"kind": b"", b"shape": [2], b"data": bytes(8)}}),
        msgpack({"w": object_array(pickle.dumps(["plain", 1]))}),
        # one of every kind that the writer above does not use: small numbers, floats, extensions
        b"\x8b" + b"".join(b"\xa1" + bytes([97 + index]) + value for index, value in enumerate([
            b"\xcc\xff", b"\xcd\xff\xff", b"\xce\xff\xff\xff\xff", b"\xcf" + b"\xff" * 8, b"\xd0\x80", b"\xca" + bytes(4), b"\xd4\x01\x00",
            b"\xd8\x01" + bytes(16), b"\xc7\x03\x05abc", b"\xff", b"\xc4\x01x",
        ])),
        b"\xde\x00\x01\xd9\x01a\xdc\x00\x01\xc8\x00\x01\x05x",
    ],
    "fasttext": [
        fasttext(), fasttext(labels=["__label__a"]), fasttext(quantised=True), fasttext(version=11), fasttext(pruned=0),
        fasttext([f"word{number}" for number in range(5_000)]),
    ],
    "word2vec": [word2vec(), word2vec(gap=b""), word2vec(["é"] * 2_000, 8), word2vec(["a\nb", "c"])],
    "sentencepiece": [sentencepiece(), sentencepiece(["<unk>", "▁the", "x" * 90])],
}  # fmt: skip
FILES = [pytest.param(name, data, id=f"{name}-{index}") for name, files in BENIGN.items() for index, data in enumerate(files)]


@pytest.mark.parametrize(("name", "data"), FILES)
def test_vocabularies_and_vectors_are_allowed(name: str, data: bytes) -> None:
    report = scanned(data)
    assert (report.format, report.decision.outcome) == (name, Outcome.ALLOWED), report.decision.reasons


@pytest.mark.parametrize(
    "array",
    [
        object_array(STREAM),
        {"nd": True, "type": "|O", "kind": "O", "data": STREAM},
        {b"nd": True, b"type": b"O", b"data": STREAM},
        {"data": STREAM, "type": "|O", "nd": True, "shape": [1], "extra": None},
    ],
)
def test_an_array_of_objects_in_msgpack_is_a_pickle(array: dict[object, object]) -> None:
    """The library that reads the file unpickles it."""
    report = scanned(msgpack({"deep": [1, {"w": array}]}))
    assert [found.rule for found in report.findings if found.level is Level.ERROR] == ["SL101"]


def test_a_stream_behind_the_first_is_found_too() -> None:
    found = rules(msgpack({"w": object_array(pickle.dumps([1]) + STREAM)}))
    assert found["SL101"] is Level.ERROR
    assert found["SL125"] is Level.ERROR


@pytest.mark.parametrize(
    "data",
    [
        msgpack({"a": 1}) + b"\0", msgpack({"a": 1})[:-1], b"\x81\xa1a\xc1", b"\x81\xa1a\xdb\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff\xa1a",
        b"\x81\xa1a" + b"\x91" * 5_000 + b"\x00", b"\x81\xa1a" + b"\xdd\x7f\xff\xff\xff", b"\x81\x01\x02", b"\x93\x01\x02\x03", b"\xdf\0",
    ],
)  # fmt: skip
def test_what_is_not_one_map_is_nobodys(data: bytes) -> None:
    """msgpack has no magic: only a whole file is claimed."""
    assert scanned(data).format == "unknown"


OUT_OF_BOUNDS = {
    "more words": fasttext(size=1 << 20),
    "a negative dictionary": fasttext(size=-1),
    "more rows": fasttext(rows=1 << 40),
    "rows without end": fasttext(rows=1 << 62),
    "negative rows": fasttext(rows=-1),
    "more pruned entries": fasttext(pruned=1 << 40),
    "more codes": fasttext(quantised=True, codes=1 << 30),
    "negative codes": fasttext(quantised=True, codes=-1),
    "a larger quantiser": fasttext(quantised=True, quantiser=1 << 30),
    "a negative quantiser": fasttext(quantised=True, quantiser=-1),
    "half a model": fasttext()[:100],
    "half a header": fasttext()[:20],
    "a word without an end": fasttext(["x" * 100_000]),
}


@pytest.mark.parametrize("data", OUT_OF_BOUNDS.values(), ids=OUT_OF_BOUNDS)
def test_a_size_that_leaves_a_fasttext_model_is_an_error(data: bytes) -> None:
    """The library believes it."""
    assert rules(data)["SL851"] is Level.ERROR


ODD = {
    "another version": (fasttext(version=99), "SL855"),
    "bytes behind": (fasttext() + b"x", "SL126"),
    "bytes behind vectors": (word2vec() + b"x", "SL126"),
    "a word without an end": (word2vec(["a"] * 1_000 + ["b" * 70_000, "c"], 90), "SL855"),
    "a piece that breaks": (sentencepiece()[:-4], "SL855"),
    "an unknown field": (sentencepiece(behind=b"\x7a\x01x"), "SL855"),
    "an unknown field of a piece": (sentencepiece(inside=b"\x7a\x01x"), "SL855"),
}


@pytest.mark.parametrize(("data", "rule"), ODD.values(), ids=ODD)
def test_what_is_not_as_its_program_writes_it_is_a_warning(data: bytes, rule: str) -> None:
    assert rules(data) == {rule: Level.WARNING}


@pytest.mark.parametrize(
    "data",
    [b"2 3\nhello world\n", b"10 5\n", word2vec(count=99), b"2 0\n\n", b"3 2\n" + b"\0" * 30, b"1999 2024\n" + b"text " * 90,
     b"2 3\nword 0.12345 -0.1 1e-5\nagain 0.5 0.5 0.25\n", b"1 2\n, 0.12345678901 0.12345678901\n"],
)
def test_other_texts_that_begin_with_numbers_are_no_vectors(data: bytes) -> None:
    assert scanned(data).format != "word2vec"


def test_their_tensors_are_listed() -> None:
    from safeload.inspection import inspect

    shown = [[(one.name, one.shape) for one in inspect(memoryview(data)).tensors] for data in (word2vec(), fasttext())]
    assert shown == [[("vectors", (2, 3))], [("input", (3, 2)), ("output", (1, 2))]]

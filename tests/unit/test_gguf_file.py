"""GGUF files: every count and length is held against the file, every tensor against all others, and templates are judged."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

import safeload
from safeload.errors import UnsupportedError
from safeload.findings import Outcome, Report
from safeload.formats.base import Contents
from safeload.formats.gguf_file import GgufFile
from safeload.inspection import inspect
from safeload.source import Reading, Source
from tests.forge_gguf import ARRAY, BOOLEAN, TEXT, Tensor, array, entry, gguf, templated, text
from tests.unit.test_chat_template import PUBLISHED

READER = GgufFile()
GOOD = gguf(
    entry("general.architecture", "llama"),
    entry("general.alignment", 32),
    entry("llama.block_count", 2),
    entry("flag", b"\1", BOOLEAN),
    entry("tokenizer.ggml.tokens", array(TEXT, [text("a"), text("é")]), ARRAY),
    entry("tokenizer.ggml.scores", array(6, [bytes(4)] * 3), ARRAY),
    entry("nested", array(ARRAY, [array(4, [bytes(4)]), array(TEXT, [text("x")])]), ARRAY),
    entry("tokenizer.chat_template", "{% for m in messages %}{{ m['content'] }}{% endfor %}"),
    tensors=[Tensor("a.weight", (4, 2), 0, bytes(32)), Tensor("b.weight", (256,), 12, bytes(144)), Tensor("c", (3,), 30, bytes(6))],
)


def read(data: bytes) -> Contents:
    with Source.open(data) as source:
        assert READER.claims(source)
        return READER.read(source, Reading())


def scan(data: bytes) -> Report:
    return safeload.scan(data, policy={}, lock=False)


def refused(data: bytes) -> tuple[set[str], str]:
    report = scan(data)
    assert report.decision.outcome is Outcome.REFUSED
    return {item.rule for item in report.findings}, " ".join(item.message for item in report.findings)


def test_what_is_in_a_file_is_listed() -> None:
    """Shapes as torch and numpy say them: ggml counts dimensions from the innermost."""
    contents = read(GOOD)
    assert contents.error is None
    assert contents.findings == []
    assert [(item.name, item.dtype, item.shape, item.nbytes) for item in contents.listed] == [
        ("a.weight", "F32", (2, 4), 32),
        ("b.weight", "Q4_K", (256,), 144),
        ("c", "BF16", (3,), 6),
    ]
    assert contents.metadata["general.architecture"] == "llama"
    assert contents.metadata["tokenizer.ggml.tokens"] == "2 texts"
    assert contents.metadata["flag"] == "True"


def test_a_good_file_is_allowed_and_inspected() -> None:
    assert scan(GOOD).decision.outcome is Outcome.ALLOWED
    assert [tensor.dtype for tensor in inspect(GOOD, lock=False).tensors] == ["F32", "Q4_K", "BF16"]


@pytest.mark.torch
def test_a_good_file_is_not_loaded(tmp_path: Path) -> None:
    """It is no checkpoint of torch's; the error says what can be done with it."""
    path = tmp_path / "m.gguf"
    path.write_bytes(GOOD)
    with pytest.raises(UnsupportedError, match="the file is gguf, which can be scanned, locked and verified"):
        safeload.load(path, lock=False)


def test_it_is_locked_and_verified_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.gguf").write_bytes(GOOD)
    assert safeload.lock("m.gguf").outcome is Outcome.ALLOWED
    assert safeload.verify().outcome is Outcome.ALLOWED
    Path("m.gguf").write_bytes(GOOD[:-1] + b"\1")
    assert safeload.verify().outcome is Outcome.REFUSED


@pytest.mark.parametrize(("version", "order"), [(1, "<"), (2, "<"), (3, "<"), (3, ">")])
def test_all_versions_and_byte_orders(version: int, order: str) -> None:
    width = "I" if version == 1 else "Q"
    entries = [entry("a", "b", order=order, width=width), entry("n", 7, order=order, width=width)]
    contents = read(gguf(*entries, tensors=[Tensor("t")], version=version, order=order))
    assert (contents.error, contents.findings) == (None, [])
    assert contents.metadata["n"] == "7"
    assert contents.listed[0].shape == (4,)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"GGUF", "the version ends at byte 8"),
        (b"GGUF\4\0\0\0" + bytes(16), "version 4"),
        (b"GGUF\0\0\0\0" + bytes(16), "version 0"),
        (gguf(counts=(None, 1 << 63)), "entries is 9223372036854775808"),
        (gguf(counts=(1 << 63, None)), "tensors is 9223372036854775808"),
        (gguf(entry("a", "b"), counts=(None, 2)), "left can hold 1"),
        (gguf(tensors=[Tensor("a")], counts=(3, None)), ""),
        (gguf(entry("a", text("b", length=1 << 63), TEXT)), "length of the value of 'a' is 9223372036854775808"),
        (gguf(entry("a", text("b", length=2), TEXT)), "left can hold 1"),
        (gguf(entry("a", b"", 99)), "of type 99"),
        (gguf(entry("a", b"\2", BOOLEAN)), "boolean of value 2"),
        (gguf(entry("a", array(4, [], count=1 << 62), ARRAY)), "length of the array 'a' is"),
        (gguf(entry("a", array(TEXT, [], count=1 << 62), ARRAY)), "length of the array 'a' is"),
        (gguf(entry("a", array(TEXT, [text("b", length=1 << 63)]), ARRAY)), "has 9223372036854775808 bytes"),
        (gguf(entry("a", array(13, [bytes(4)]), ARRAY)), "array of type 13"),
        (gguf(entry("a", "b"), entry("a", "c")), "two metadata entries are named 'a'"),
        (gguf(entry("", "b")), "a metadata key of 0 characters"),
        (gguf(entry(b"\xff", "b")), "is not UTF-8"),
        (gguf(entry("general.alignment", 0)), "the alignment is 0"),
        (gguf(entry("general.alignment", 24)), "the alignment is 24"),
        (gguf(entry("general.alignment", 1 << 31)), "the alignment is"),
        (gguf(tensors=[Tensor("a"), Tensor("a")]), "two tensors are named 'a'"),
        (gguf(tensors=[Tensor("a", dimensions=5)]), "5 dimensions"),
        (gguf(tensors=[Tensor("a", (1 << 62, 2))]), "elements"),
        (gguf(tensors=[Tensor("a", (1 << 32, 1 << 32, 1 << 32, 1 << 32))]), "elements"),
        (gguf(tensors=[Tensor("a", (100,), 12)]), "not whole blocks of 256"),
    ],
)
def test_what_cannot_be_is_an_error(data: bytes, what: str) -> None:
    """Each of these made some reader in C allocate, copy or compute beyond what is there."""
    rules, said = refused(data)
    assert "SL701" in rules
    assert what in said


@pytest.mark.parametrize(
    ("tensors", "what"),
    [
        ([Tensor("a", offset=1 << 40)], "the file has"),
        ([Tensor("a", offset=(1 << 64) - 32)], "the file has"),
        ([Tensor("a", (16,))], "the file has"),
        ([Tensor("a", offset=8)], "off the alignment of 32"),
        ([Tensor("a", (16,), data=bytes(64)), Tensor("b", offset=32)], "inside of tensor 'a'"),
        ([Tensor("a"), Tensor("b", offset=0)], "inside of tensor"),
    ],
)
def test_tensors_lie_in_the_file_and_beside_each_other(tensors: list[Tensor], what: str) -> None:
    rules, said = refused(
        gguf(tensors=tensors, tail=b"" if what == "ends at byte" else bytes(16))[: None if what != "ends at byte" else -16]
    )
    assert "SL702" in rules
    assert what in said


@pytest.mark.parametrize(
    "data",
    [
        gguf(tensors=[Tensor("a", kind=140)]),
        gguf(tensors=[Tensor("a")], tail=b"#!/bin/sh\n" + bytes(60)),
        gguf(tensors=[Tensor("a"), Tensor("b", offset=96)], tail=bytes(64)),
        gguf(tensors=[Tensor("n" * 64)]),
    ],
    ids=["type", "tail", "gap", "name"],
)
def test_what_no_writer_writes_is_a_warning(data: bytes) -> None:
    assert refused(data)[0] == {"SL708"}


def test_the_published_template_is_an_error_under_any_key() -> None:
    """CVE-2024-34359, and the same where only a program that looks for it would find it."""
    report = scan(templated(PUBLISHED))
    assert report.decision.outcome is Outcome.REFUSED
    assert {item.rule for item in report.findings if item.level == "error"} == {"SL703"}
    for key in ("tokenizer.chat_template.tool_use", "chat_template", "general.description", "prompt.Template"):
        assert "SL703" in refused(gguf(entry(key, PUBLISHED)))[0]
    assert "SL703" in refused(gguf(entry("tokenizer.chat_templates", array(TEXT, [text("a"), text(PUBLISHED)]), ARRAY)))[0]


def test_braces_in_other_metadata_are_no_template() -> None:
    assert scan(gguf(entry("general.description", "use {{ name }} and {% raw"))).decision.outcome is Outcome.ALLOWED


def test_more_templates_than_are_judged_are_not_let_pass() -> None:
    """A bound on the whole file: many templates just below the bound of one would take minutes."""
    many = [entry(f"tokenizer.chat_template.{index}", "{{ m }}" + "x" * 120_000) for index in range(6)]
    assert refused(gguf(*many))[0] == {"SL707"}


def test_a_stream_in_the_header_is_found() -> None:
    """The magic is an opcode and its operand to an unpickler, and the counts are opcodes."""
    data = b"GGUF\3\0\0\0\0" + b"cos\nsystem\n(S'true'\ntR." + bytes(64)
    report = scan(data)
    assert report.decision.outcome is Outcome.REFUSED
    assert {"SL101", "SL213"} <= {item.rule for item in report.findings}


def test_damaged_files_end_in_findings() -> None:
    """No builtin exception, whatever byte is changed or missing."""
    rng = random.Random(7)
    for number in range(3000):
        data = bytearray(GOOD)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(4, len(data))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        at = rng.randrange(8, len(data) - 8)
        if number % 3 == 0:
            data[at : at + 8] = struct.pack("<Q", rng.choice([1 << 63, (1 << 64) - 1, 1 << 31, 1 << 32]))
        if number % 3 == 1:
            del data[rng.randrange(4, len(data)) :]
        report = scan(bytes(data))
        assert report.decision.reasons != ("not decided",)

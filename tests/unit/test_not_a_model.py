"""What is no model is named as what it is, and nothing that a loader might open is passed over."""

from __future__ import annotations

import io
import pickle
import random
import zipfile

import pytest

from safeload.formats.not_a_model import diagnose, plainly_no_model
from safeload.source import Source
from tests.effort import within
from tests.forge_safetensors import file_of

OID = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize 440473133\n".encode()


def told(data: bytes) -> tuple[str, str, str]:
    return diagnose(Source.open(data))


def skipped(data: bytes) -> str | None:
    return plainly_no_model(Source.open(data))


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"0123456789" * 100)
    return file.getvalue()


def test_a_pointer_names_what_it_stands_for() -> None:
    """People clone without git-lfs and get told that their model is malicious; the size and digest say what is missing."""
    rule, message, hint = told(POINTER)
    assert rule == "SL501"
    assert f"a Git-LFS pointer of {len(POINTER)} bytes" in message
    assert f"has 440473133 bytes, sha256:{OID}" in message
    assert "git lfs pull" in hint


@pytest.mark.parametrize(
    "tail", [b"", b"v1\n", b"v1\noid sha256:xyz\nsize -1\n", b"v1\nsize " + b"9" * 400, b"v1\noid md5:" + b"0" * 32, b"\x1b[2J"]
)
def test_a_broken_pointer_is_still_a_pointer(tail: bytes) -> None:
    _, message, _ = told(b"version https://git-lfs.github.com/spec/" + tail)
    assert "a Git-LFS pointer" in message
    assert "stands for" not in message


@pytest.mark.parametrize(
    ("data", "rule", "what"),
    [
        (b"", "SL503", "empty"),
        (b"<!DOCTYPE html>\n<html><head><title>\n Sign in \x1b[2J</title>", "SL501", "a web page titled 'Sign in \\x1b[2J'"),
        (b"\xef\xbb\xbf  <!-- hi --><!-- ho -->\n<HTML lang=en>", "SL501", "a web page"),
        (b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "x"><html>', "SL501", "a web page"),
        (
            b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message>',
            "SL501",
            "AccessDenied: Access Denied",
        ),
        (b"<Error><Code>NoSuchKey</Code></Error>", "SL501", "error, not a model: NoSuchKey"),
        (b'<?xml version="1.0"?><root/>', "SL501", "an XML document"),
        (b'<svg xmlns="x">', "SL501", "an SVG picture"),
        (b'{"error":"Repository not found"}', "SL501", "error: Repository not found"),
        (b'{"message": "Bad credentials\\u001b[2J"}', "SL501", "message: Bad credentials\\x1b[2J"),
        (b'{"error": {"deep": 1}}', "SL501", "a JSON document with an error"),
        (b'{"hidden_size": 768}', "SL501", "a JSON document, not a model"),
        (b"[1, 2]", "SL501", "a JSON document"),
        (b"{not json", "SL501", "text, not a model: '{not json'"),
        (b"404: Not Found", "SL501", "text, not a model: '404: Not Found'"),
        ("# Modell für später\n".encode(), "SL501", "'# Modell für später'"),
        ("# Modell für alle Fälle, die später kommen, und noch mehr Text\n".encode("latin-1"), "SL501", "text, not a model"),
        ("plain text".encode("utf-16"), "SL501", "'plain text'"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "SL501", "a PNG picture, not"),
        (b"RIFF\0\0\0\0WAVEfmt ", "SL501", "a WAV recording"),
        (b"%PDF-1.7\n\xe2\xe3", "SL501", "a PDF document"),
        (b"\x7fELF\2\1\1" + bytes(9), "SL501", "an ELF program"),
        (b"ftrt\0\0\0\0", "SL501", "a TensorRT engine: compiled code: safeload does not read it"),
        (b"\x0c\xdb:*q\0\0\0", "SL501", "the manifest of a TensorStore database (Orbax): safeload does not read it"),
        (b"X\n\0\0\0\2\0\2\3\0", "SL501", "objects of R: safeload does not read it"),
        (b"fmgg\1\0\0\0", "SL501", "a GGML model: safeload does not read it"),
        (b"{% if messages %}{{ x }}{% endif %}", "SL501", "text, not a model"),
        (b"Rar!\x1a\x07\x01\0" + bytes(9), "SL222", "a RAR archive: safeload does not read it"),
        (b"\x1f\x8b\x08\0" + bytes(9), "SL222", "gzip-compressed data: safeload does not read it"),
        (bytes(4096), "SL501", "nothing but zero bytes"),
        (b"\xde\xad\xbe\xef" + bytes(range(256)), "SL501", "begins with de ad be ef 00 01"),
        (b"PK", "SL502", "only the first 2 bytes of a zip archive"),
        (b"\x80\x02\x8a\nl\xfc\x9cF", "SL502", "only the first 8 bytes of a torch checkpoint"),
    ],
)
def test_each_thing_is_called_what_it_is(data: bytes, rule: str, what: str) -> None:
    found, message, _ = told(data)
    assert what in message
    assert found == rule
    assert message.isprintable()


def test_half_a_zip_names_the_last_member_that_came() -> None:
    whole = zipped("m/data.pkl", "m/data/0", "m/data/1")
    rule, message, hint = told(whole[:2300])
    assert (rule, "'m/data/1'" in message, "ends after 2300 bytes" in message) == ("SL502", True, True)
    assert "again" in hint
    assert "'m/data.pkl'" in told(whole[:60])[1]
    assert told(whole[:20])[0] == "SL502"
    assert told(whole)[0] == "SL501"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "an empty file"),
        (b"import os\n\n\ndef f():\n    return os.name\n", "text"),
        ("# Überschrift\n\n* 中文\n".encode(), "text"),
        (b'{"architectures": ["Bert"]}', "JSON text"),
        (b"{% if messages %}{{ x }}{% endif %}", "text"),
        (b"<html></html>", "a web page"),
        (b"\xff\xd8\xff\xe0" + bytes(40), "a JPEG picture"),
        (b"\x7fELF" + bytes(40), "an ELF program or library"),
        ("é".encode() * 40_000, "text"),
        (b"a" + "é".encode() * 40_000, "text"),
    ],
)
def test_plainly_no_model(data: bytes, why: str) -> None:
    """While a directory is walked, these are listed and change no status."""
    assert skipped(data) == why


@pytest.mark.parametrize(
    "data",
    [
        POINTER,
        pickle.dumps([1]),
        b"\x80",
        zipped("a"),
        zipped("a")[:40],
        b"# text\n" + zipped("m/data.pkl"),
        b"\x89PNG\r\n\x1a\n" + zipped("m/data.pkl"),
        b"\x1f\x8b\x08\0" + bytes(9),
        b"x\x9c" + bytes(9),
        b"BZh91AY&SY",
        file_of({}),
        b"text and then \0 a zero",
        bytes(100),
        b"\x93NUMPY\1\0",
    ],
)
def test_what_a_loader_might_open_is_not_passed_over(data: bytes) -> None:
    assert skipped(data) is None


def test_random_bytes_are_judged_quickly_and_without_surprise() -> None:
    rng = random.Random(5)
    words = [
        b"<!--",
        b"-->",
        b"<html",
        b"<title>",
        b"{",
        b'"error":',
        b"[",
        b"PK\3\4",
        b"PK\5\6",
        b"\n",
        POINTER[:60],
        b"\0",
        b"<Code>",
        b"<?xml",
        b"?>",
    ]
    with within(10):
        for _ in range(600):
            data = b"".join(rng.choice([*words, rng.randbytes(3)]) for _ in range(rng.randrange(12)))
            rule, message, _ = told(data)
            assert rule in ("SL501", "SL502", "SL503")
            assert message.isprintable()
            skipped(data)
        for word in words:
            told(word * (100_000 // len(word)))
            skipped(word * (100_000 // len(word)))

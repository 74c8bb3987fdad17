"""What a file is when it is no model: a Git-LFS pointer, a web page, an error document, text, a picture, half a download.

Asked after every reader has declined. Only the first bytes decide, as they do for loaders; names never do.
"""

from __future__ import annotations

import re
from typing import Final

from safeload.findings import escape
from safeload.formats.first_bytes import looks_like_zip, trailing_zip
from safeload.source import Source

__all__ = ["diagnose", "plainly_no_model"]

_HEAD: Final = 64 * 1024
_DOCUMENT: Final = 1 << 20  # bytes of a JSON document that are parsed for its error message
_SHOWN: Final = 120
_FETCH: Final = "fetch the file again, and compare its size and digest with what its publisher states"

# The legacy stream's first 14 bytes as torch writes them: PROTO 2, LONG1 of the magic number, STOP.
_TORCH_LEGACY: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

# (offset, bytes, what it is): nothing that a loader of models opens.
_OTHER: Final = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"), (0, b"\xff\xd8\xff", "a JPEG picture"), (0, b"GIF87a", "a GIF picture"),
    (0, b"GIF89a", "a GIF picture"), (8, b"WEBP", "a WebP picture"), (0, b"II*\0", "a TIFF picture"), (0, b"MM\0*", "a TIFF picture"),
    (0, b"BM", "a BMP picture"), (0, b"\0\0\1\0", "an icon"), (0, b"8BPS", "a Photoshop picture"), (8, b"WAVE", "a WAV recording"),
    (8, b"AVI ", "an AVI film"), (0, b"fLaC", "a FLAC recording"), (0, b"OggS", "an Ogg recording"), (0, b"ID3", "an MP3 recording"),
    (0, b"\xff\xfb", "an MP3 recording"), (4, b"ftyp", "an MP4 or HEIF file"), (0, b"\x1aE\xdf\xa3", "a Matroska film"),
    (0, b"%PDF-", "a PDF document"), (0, b"%!PS", "a PostScript document"), (0, b"{\\rtf", "an RTF document"),
    (0, b"\x7fELF", "an ELF program or library"), (0, b"MZ", "a Windows program or library"),
    (0, b"\xcf\xfa\xed\xfe", "a Mach-O program or library"), (0, b"\xca\xfe\xba\xbe", "a Mach-O or Java file"),
    (0, b"\0asm", "a WebAssembly module"), (0, b"!<arch>\n", "a static library"), (0, b"OTTO", "a font"), (0, b"\0\1\0\0\0", "a font"),
    (0, b"wOFF", "a font"), (0, b"wOF2", "a font"), (0, b"SQLite format 3\0", "an SQLite database"), (0, b"PAR1", "a Parquet table"),
    (0, b"ARROW1\0\0", "an Arrow table"), (0, b"\xa7\r\r\n", "compiled Python"), (0, b"glTF", "a 3D scene"),
)  # fmt: skip

# What a loader of models may well open, and no reader here does.
_FOREIGN: Final = (
    (0, b"lmgg", "a GGML model"), (0, b"fmgg", "a GGML model"), (0, b"tjgg", "a GGML model"), (0, b"algg", "a GGML adapter"),
    (0, b"\x0c\xdb:*", "the manifest of a TensorStore database (Orbax)"), (0, b"\x0c\xdb \xde", "a node of a TensorStore database (Orbax)"),
    (0, b"ftrt", "a TensorRT engine: compiled code"), (0, b"ptrt", "a TensorRT engine: compiled code"),
    (0, b"X\n\0\0\0", "objects of R"), (0, b"RDX2\n", "a workspace of R"), (0, b"RDX3\n", "a workspace of R"),
    (0, b"\x12\1\0\0\0\0\0\0", "an MXNet model's parameters"), (0, b"RKNN", "an RKNN model"),
    (4, b"ORTM", "an ONNX Runtime model (.ort)"), (0, b"\x1f\x8b", "gzip-compressed data"), (0, b"BZh", "bzip2-compressed data"),
    (0, b"\xfd7zXZ\0", "xz-compressed data"), (0, b"\x28\xb5\x2f\xfd", "zstd-compressed data"),
    (0, b"\x04\x22\x4d\x18", "lz4-compressed data"),
    (0, b"]\0\0", "lzma-compressed data"), (0, b"x\x01", "zlib-compressed data"), (0, b"x\x9c", "zlib-compressed data"),
    (0, b"x\xda", "zlib-compressed data"), (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"), (0, b"Rar!\x1a\x07", "a RAR archive"),
)  # fmt: skip
_SHORT_MAGIC: Final = frozenset({b"BM", b"MZ", b"x\x01", b"x\x9c", b"x\xda", b"ID3", b"PAR1", b"]\0\0"})

_POINTER: Final = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")
_OID: Final = re.compile(rb"^oid (sha256:[0-9a-f]{64})\r?$", re.MULTILINE)
_SIZE: Final = re.compile(rb"^size ([0-9]{1,20})\r?$", re.MULTILINE)
_HTML: Final = re.compile(rb"<(?:!doctype\s+html|html|head|body|title)\b", re.IGNORECASE)
_XML_ERROR: Final = re.compile(rb"<Code>([^<]{1,200})</Code>(?:\s*<Message>([^<]{0,400})</Message>)?")
_ERROR_KEYS: Final = ("error", "message", "detail", "errors", "error_description", "Message", "msg")
_JSON: Final = re.compile(r"[\ufeff\s]*(?:\{\s*[\"}]|\[(?!\[?[A-Za-z_]+[\]\w.-]))")  # no TOML, INI file or Jinja template
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")


def diagnose(source: Source) -> tuple[str, str, str]:
    """Say what a file is that no reader claims.

    Returns:
        The rule (SL222 packed, SL501 not a model, SL502 truncated, SL503 empty), a message, and a hint (or ""). A file of which
        nothing is known is SL501 too, and the message shows its first bytes.
    """
    if source.size == 0:
        return "SL503", "the file is empty", _FETCH
    head = source.head(_HEAD)
    for judge in (_pointer, _page, _xml, _json, _truncated_zip, _truncated_legacy):
        found = judge(head, source)
        if found is not None:
            return found
    what = _magic(head, _OTHER)
    if what is not None:
        return "SL501", f"{what}, not a model", ""
    what = _magic(head, _FOREIGN)
    if what is not None:
        rule = "SL222" if what.endswith((" archive", " data")) else "SL501"
        hint = "unpack it, and scan the directory that comes out" if rule == "SL222" else ""
        return rule, f"{what}: safeload does not read it, and says nothing about what is in it", hint
    text = _text(head, source.size)
    if text is not None:
        first = text.lstrip("\ufeff \t\r\n").partition("\n")[0].strip()
        return "SL501", f"text, not a model: '{escape(first, _SHOWN)}'", ""
    if not head.strip(b"\0"):
        return "SL501", f"nothing but zero bytes in the first {len(head)}: the download may have been cut off", _FETCH
    return "SL501", f"no reader knows content that begins with {head[:16].hex(' ')}", ""


def plainly_no_model(source: Source) -> str | None:
    """Return what a file is when no loader would take its content for a model, else None.

    True of text (source, markdown, configurations), pictures, recordings, documents, programs. Not of compressed data, of
    model formats that are not read here, of Git-LFS pointers, or of anything with a zip archive at its end. Text that is a
    protocol 0 pickle is text here too: ask the readers first.
    """
    if source.size == 0:
        return "an empty file"
    head = source.head(_HEAD)
    if looks_like_zip(source) or head.startswith(_POINTER):
        return None
    what = _magic(head, _OTHER)
    if what is None:
        text = _text(head, source.size)
        if text is None or _magic(head, _FOREIGN) is not None:
            return None
        what = "text"
        if _HTML.match(_behind_prologue(head)):
            what = "a web page"
        elif _JSON.match(text):
            what = "JSON text"
    # Asked last: it reads the end of the file, and a deflated member has to be unpacked for it.
    return None if trailing_zip(source) else what


# ---- one judge for each kind of thing


def _pointer(head: bytes, source: Source) -> tuple[str, str, str] | None:
    if not head.startswith(_POINTER):
        return None
    oid, size = _OID.search(head[:1024]), _SIZE.search(head[:1024])
    known = [f"{int(size[1])} bytes"] if size else []
    known += [oid[1].decode()] if oid else []
    meant = f"; the file that it stands for has {', '.join(known)}" if known else ""
    return "SL501", f"a Git-LFS pointer of {source.size} bytes, not the file itself{meant}", "run 'git lfs pull' where it was cloned"


def _page(head: bytes, _: Source) -> tuple[str, str, str] | None:
    if not _HTML.match(_behind_prologue(head)):
        return None
    lower = head.lower()
    start = lower.find(b">", lower.find(b"<title")) + 1 if b"<title" in lower else 0
    title = _shown(head[start : start + 1000].partition(b"<")[0]) if start else ""
    named = f" titled '{title}'" if title else ""
    return "SL501", f"a web page{named}, not a model", "the address gave a page (a login, a consent or an error) in place of the file"


def _behind_prologue(head: bytes) -> bytes:
    """What follows a byte order mark, blanks, comments and an XML declaration."""
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for _ in range(16):
        end = b"-->" if head.startswith(b"<!--") else b"?>" if head.startswith(b"<?xml") else b""
        if not end or end not in head:
            break
        head = head[head.index(end) + len(end) :].lstrip()
    return head


def _xml(head: bytes, _: Source) -> tuple[str, str, str] | None:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    inner = _behind_prologue(head)
    if inner.startswith((b"<svg", b"<!DOCTYPE svg")):
        return "SL501", "an SVG picture, not a model", ""
    if not start.startswith(b"<?xml") and not inner.startswith(b"<Error>"):
        return None
    error = _XML_ERROR.search(head)
    if error is None:
        return "SL501", "an XML document, not a model", ""
    said = ": ".join(_shown(part) for part in error.groups() if part)
    return "SL501", f"a storage service's error, not a model: {said}", "the address is wrong, has expired, or needs credentials"


def _json(head: bytes, source: Source) -> tuple[str, str, str] | None:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] not in (b"{", b"[") or source.size > _DOCUMENT or _text(head, source.size) is None:
        return None
    import json

    try:
        document = json.loads(source.read(0, source.size))
    except (ValueError, RecursionError):
        return None
    if isinstance(document, dict):
        for key in _ERROR_KEYS:
            if document.get(key):
                said = escape(str(document[key])[: 2 * _SHOWN], _SHOWN) if isinstance(document[key], (str, int)) else "…"
                return "SL501", f"a JSON document with an error, not a model: {key}: {said}", "the address is wrong, or needs credentials"
    return "SL501", "a JSON document, not a model", ""


def _truncated_zip(head: bytes, source: Source) -> tuple[str, str, str] | None:
    """A zip's directory stands at its end: without one, the download stopped early."""
    if not head.startswith(b"PK\3\4"):
        return ("SL502", f"only the first {source.size} bytes of a zip archive", _FETCH) if b"PK\3\4".startswith(head) else None
    tail = source.read(max(0, source.size - _HEAD - 22), min(source.size, _HEAD + 22))
    if b"PK\5\6" in tail:
        return None
    at, name = 0, ""
    for _ in range(10_000):
        header = source.read(at, min(30, source.size - at))
        if len(header) < 30 or header[:4] != b"PK\3\4":
            break
        nbytes, length, extra = int.from_bytes(header[18:22], "little"), header[26] | header[27] << 8, header[28] | header[29] << 8
        name = source.read(at + 30, min(length, source.size - at - 30)).decode("utf-8", "replace")
        if header[6] & 8 and not nbytes:
            break  # its size stands behind it: nobody can step over it
        at += 30 + length + extra + nbytes
        if at >= source.size:
            break
    where = f"the last member that can be found is '{escape(name, _SHOWN)}'" if name else "it has no readable member"
    return "SL502", f"a zip archive without its directory: the file ends after {source.size} bytes; {where}", _FETCH


def _truncated_legacy(head: bytes, source: Source) -> tuple[str, str, str] | None:
    if source.size <= len(_TORCH_LEGACY) and len(head) > 4 and _TORCH_LEGACY.startswith(head):
        return "SL502", f"only the first {source.size} bytes of a torch checkpoint", _FETCH
    return None


# ---- bytes


def _shown(raw: bytes) -> str:
    return escape(" ".join(raw.decode("utf-8", "replace").split()), _SHOWN)


def _magic(head: bytes, table: tuple[tuple[int, bytes, str], ...]) -> str | None:
    for offset, magic, what in table:
        if head.startswith(magic, offset) and not (magic in _SHORT_MAGIC and _text(head, len(head) + 1) is not None):
            return what
    return None


def _text(head: bytes, size: int) -> str | None:
    """The first bytes as text, or None when they are none.

    Args:
        head: At most the first `_HEAD` bytes.
        size: Of the whole file: where the head is not all, it may end inside a character.
    """
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = head[: len(head) & ~1].decode("utf-16", "replace")
        return text if _printable(text) and "\ufffd" not in text[:-2] else None
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or len(head) == size:
            return _eight_bit(head)
        text = head[: error.start].decode("utf-8")
    return text if _printable(text) else None


def _printable(text: str) -> bool:
    return _CONTROLS.search(text) is None


def _eight_bit(head: bytes) -> str | None:
    """Text of an older encoding: almost all ASCII, no controls."""
    text = head.decode("latin-1")
    high = len(head) - len(text.encode("ascii", "ignore"))
    return text if _printable(text) and high * 20 < len(head) and _CONTROLS.search(text) is None else None

"""Which reader could be meant, by a file's first bytes: whoever cannot be is not even imported.

Each test lets through at least what its reader claims; the reader then decides by itself.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import Final

from safeload.source import Source

__all__ = [
    "END",
    "END_SIGNATURE",
    "MODEL_TAGS",
    "TAIL",
    "hdf5_start",
    "looks_like_zip",
    "may_be_catboost",
    "may_be_checkpoint",
    "may_be_compressed",
    "may_be_config",
    "may_be_coreml",
    "may_be_coreml_weights",
    "may_be_dcp_metadata",
    "may_be_fasttext",
    "may_be_ggml",
    "may_be_gguf",
    "may_be_graph_text",
    "may_be_json",
    "may_be_keras_json",
    "may_be_lightgbm",
    "may_be_msgpack",
    "may_be_npy",
    "may_be_onnx",
    "may_be_paddle",
    "may_be_paddle_parameters",
    "may_be_python",
    "may_be_safetensors",
    "may_be_sentencepiece",
    "may_be_sevenzip",
    "may_be_tar",
    "may_be_tensorflow",
    "may_be_text",
    "may_be_tflite",
    "may_be_torch_legacy",
    "may_be_ubjson",
    "may_be_word2vec",
    "may_be_xgboost_binary",
    "may_be_xml",
    "may_be_yaml",
    "trailing_zip",
]

END: Final = Struct("<4s4H2LH")
END_SIGNATURE: Final = b"PK\5\6"
TAIL: Final = 72 * 1024
"""Bytes in which an end record is searched: the reader inside torch looks 4 KiB further back than the format allows."""

_LOCATOR: Final = 20
_MAGIC: Final = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")  # of torch's legacy files
_TEXT_INTEGER: Final = re.compile(rb"[IL]\s*[-+]?[0-9]")
_TEXT: Final = 1 << 20
_NEAR: Final = 4096
_SMALL: Final = 1 << 15  # such a file is read at once
_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_COMPRESSED: Final = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"]\0\0", b"x", b"ZF0x", b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd")
MODEL_TAGS: Final = b"\x08\x12\x1a\x22\x28\x32\x3a\x42\x72\xa2\xca\xd2"
"""First bytes of the tags of ONNX's ModelProto."""



def looks_like_zip(source: Source) -> bool:
    """Whether the first four bytes are a local header's or, for an archive without members, an end record's."""
    return source.head(4) in (b"PK\3\4", END_SIGNATURE)


def trailing_zip(source: Source) -> bool:
    """Whether an end record in the tail of a file that does not begin as a ZIP points to a directory in the file.

    Many readers accept bytes in front of an archive, so such a file is two files at once.
    """
    if looks_like_zip(source) or source.size < END.size:
        return False
    start = max(0, source.size - TAIL)
    tail = bytes(source.view(start, source.size - start))
    at = tail.rfind(END_SIGNATURE)
    while at >= 0:
        if at + END.size <= len(tail) and _plausible(source, tail, at, start + at):
            return True
        at = tail.rfind(END_SIGNATURE, 0, at + 3)
    return False


def _plausible(source: Source, tail: bytes, at: int, position: int) -> bool:
    """Whether an end record could be one: zip64 before it, or a directory where it says or right before it."""
    _, _, _, _, _, size, offset, comment = END.unpack_from(tail, at)
    if at + END.size + comment > len(tail):
        return False
    if at >= _LOCATOR and tail[at - _LOCATOR : at - _LOCATOR + 4] == b"PK\6\7":
        return True
    return any(
        place >= 0 and place + 46 <= position and source.read(place, 4) == b"PK\1\2" for place in (offset, position - size) if size
    )


def may_be_safetensors(source: Source) -> bool:
    """A "{" behind a length and perhaps blanks."""
    return b"{" in source.head(8 + 64)[8:]


def may_be_dcp_metadata(source: Source) -> bool:
    """The module of the metadata's classes, near the front of a stream."""
    return b"torch.distributed.checkpoint.metadata" in source.head(256)


def may_be_gguf(source: Source) -> bool:
    """GGUF's magic."""
    return source.head(4) == b"GGUF"


def may_be_ggml(source: Source) -> bool:
    """The magics of GGML's files before GGUF."""
    return source.head(4) in (b"lmgg", b"fmgg", b"tjgg", b"algg")


def may_be_npy(source: Source) -> bool:
    """numpy's magic."""
    return source.head(6) == b"\x93NUMPY"


def may_be_sevenzip(source: Source) -> bool:
    """7z's magic."""
    return source.head(6) == b"7z\xbc\xaf\x27\x1c"


def may_be_onnx(source: Source) -> bool:
    """The tag of a field of ONNX's ModelProto: of its numbers 1 to 8, 14, 20, 25 and 26, each with its wire type."""
    head = source.head(1)
    return bool(head) and head in MODEL_TAGS


def may_be_tensorflow(source: Source) -> bool:
    """The tag of the first field of a SavedModel, a MetaGraph, a graph or a fingerprint."""
    return source.head(1) in (b"\x08", b"\x0a", b"\x12")


def may_be_coreml(source: Source) -> bool:
    """A small number as the first field, and a message as the second."""
    head = source.head(3)
    return head[:1] == b"\x08" and head[2:] == b"\x12"


def may_be_coreml_weights(source: Source) -> bool:
    """The second version of the storage of blobs."""
    return source.head(16)[4:] == b"\2" + bytes(11)


def may_be_paddle(source: Source) -> bool:
    """A message with a block that has no parent."""
    head = source.head(32)
    return head[:1] == b"\n" and b"\x08\0\x10\xff" in head


def may_be_paddle_parameters(source: Source) -> bool:
    """Zeros, and a small number."""
    head = source.head(20)
    return len(head) == 20 and not any(head[:16]) and head[16] > 0 and not any(head[17:])


def may_be_tflite(source: Source) -> bool:
    """TensorFlow Lite's identifier."""
    return source.head(8)[4:] == b"TFL3"


def may_be_checkpoint(source: Source) -> bool:
    """An entry with an empty key, as the index of a TensorFlow checkpoint begins."""
    return source.head(2) == b"\0\0"


def may_be_tar(source: Source) -> bool:
    """A number where a tar header has its checksum."""
    field = source.head(512)[148:156]
    if len(field) != 8:
        return False
    if field[0] in (0x80, 0xFF):
        return True
    try:
        return int(field.partition(b"\0")[0].decode("ascii").strip() or "0", 8) > 0
    except ValueError:
        return False


def may_be_compressed(source: Source) -> bool:
    """The first bytes of a compressed stream."""
    head = source.head(8)
    return head.startswith(_COMPRESSED) or head[1:4] == b"\x2a\x4d\x18"


def may_be_json(source: Source) -> bool:
    """The beginning of an object, perhaps behind blanks."""
    head = source.head(512)
    return not head.strip(b" \t\r\n") or head.lstrip(b" \t\r\n")[:1] == b"{"


def may_be_keras_json(source: Source) -> bool:
    """The beginning of an object in any encoding that `json.loads` takes, perhaps behind a mark of it."""
    head = source.head(512)
    return not head.strip(b" \t\r\n\0") or head.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")[:1] == b"{"


def may_be_config(source: Source) -> bool:
    """The beginning of a JSON object or list, perhaps behind a mark and blanks."""
    return source.head(512).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")


def may_be_text(source: Source) -> bool:
    """A small file without zero bytes at its front."""
    return 0 < source.size <= _TEXT and b"\0" not in source.head(512)


def may_be_graph_text(source: Source) -> bool:
    """A comment, or the first letter of a field of a graph or a SavedModel."""
    head = source.head(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    return head.startswith((b"#", b"node", b"library", b"version", b"meta_", b"graph_def", b"saved_model")) or not head


def may_be_python(source: Source) -> bool:
    """A small text that is named as Python wants it."""
    return source.path is not None and source.path.endswith(".py") and may_be_text(source)


def may_be_yaml(source: Source, most: int = _TEXT) -> bool:
    """A small text, or one of two bytes for each character."""
    return 0 < source.size <= most and (b"\0" not in (head := source.head(512)) or head[:2] in (b"\xff\xfe", b"\xfe\xff"))


def hdf5_start(source: Source, *, front: bool) -> int | None:
    """Return where HDF5's signature stands: at the file's first byte or behind something else at 512, 1024 and so on.

    Args:
        source: The file.
        front: Look at the first byte, too.

    The library looks as far as the file goes. Of a file behind an address only the first places are asked for: each would be a
    request of its own, and whoever opens the file with the library has to fetch it first.
    """
    if front and source.head(8) == _HDF5:
        return 0
    at, most = 512, min(source.size, _NEAR) if source.distant else source.size
    if source.size <= _SMALL and not source.distant:
        whole = source.read(0, source.size)
        while at + 48 <= most and whole[at : at + 8] != _HDF5:
            at *= 2
        return at if at + 48 <= most else None
    here = bytearray(len(_HDF5))
    while at + 48 <= most:
        # Not kept where it is something else: each place lies in a leaf of its own, which `open` would have to verify for nothing.
        source.readinto(at, memoryview(here), keep=False)
        if here == _HDF5:
            return at
        at *= 2
    return None


def may_be_torch_legacy(source: Source) -> bool:
    """The magic number as bytes, or any integer that is written as text, in which it can stand in many ways."""
    head = source.head(512)
    return _MAGIC in head or _TEXT_INTEGER.search(head) is not None


def may_be_catboost(source: Source) -> bool:
    """CatBoost's magic."""
    return source.head(4) == b"CBM1"


def may_be_lightgbm(source: Source) -> bool:
    """The word that LightGBM's text begins with."""
    return source.head(8).removeprefix(b"\xef\xbb\xbf").startswith(b"tree")


def may_be_xml(source: Source) -> bool:
    """A "<" behind marks and blanks, in any encoding."""
    head = source.head(512)
    return not head.strip(b" \t\r\n\0") or head.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")[:1] == b"<"


def may_be_ubjson(source: Source) -> bool:
    """An object whose first key's length, number or type follows."""
    head = source.head(2)
    return head[:1] == b"{" and head[1:] in (b"i", b"U", b"I", b"l", b"L", b"$", b"#")


def may_be_xgboost_binary(source: Source) -> bool:
    """XGBoost's magic, or a short text's length where its old header ends."""
    head = source.head(144)
    return head[:4] == b"binf" or (len(head) == 144 and 0 < head[136] < 100 and not any(head[137:144]))


def may_be_fasttext(source: Source) -> bool:
    """fastText's magic."""
    return source.head(4) == b"\xba\x16O/"


def may_be_word2vec(source: Source) -> bool:
    """A number."""
    return source.head(2)[:1].isdigit()


def may_be_sentencepiece(source: Source) -> bool:
    """A message of a message of a text."""
    head = source.head(4)
    return head[:1] == b"\n" and head[2:3] == b"\n"


def may_be_msgpack(source: Source) -> bool:
    """A map whose first key is a text, or the empty map alone."""
    head = source.head(6)
    if not head or (head[0] & 0xF0 != 0x80 and head[0] not in (0xDE, 0xDF)):
        return False
    key = head[{0xDE: 3, 0xDF: 5}.get(head[0], 1) :][:1]
    return (source.size == 1 and head == b"\x80") or (bool(key) and (0xA0 <= key[0] < 0xC0 or key[0] in (0xC4, 0xD9, 0xDA)))

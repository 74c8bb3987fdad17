"""Files that are no checkpoints, or half of one: whoever catches what torch raises for them catches what safeload raises."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

import safeload
from safeload.errors import EmptyFileError, NotBuiltError, RefusedError, RefusedFormatError, SafeloadError, TruncatedError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

MEANT = (pickle.UnpicklingError, RuntimeError, EOFError)
"""What torch raises on purpose. What slips out of its reader besides (KeyError, IndexError, struct.error) nobody catches."""


def saved(*, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(12.0), "b": [1, "x"]}, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), data)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("model.pt")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    return buffer.getvalue()


FOREIGN: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: gzip.compress(saved()),
    "bzip2": lambda: bz2.compress(saved()),
    "xz": lambda: lzma.compress(saved()),
    "npy": lambda: b"\x93NUMPY\1\0v\0" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n" + bytes(4),
    "npz": lambda: zipped(a_npy=b""),
    "a zip of other things": lambda: zipped(notes_txt=b"hello"),
    "a zip with a checkpoint in it": lambda: zipped(x__model_pt=saved()),
    "a Keras archive": lambda: zipped(config_json=b"{}", metadata_json=b"{}"),
    "tar": tarred,
    "HDF5": lambda: b"\x89HDF\r\n\x1a\n" + bytes(200),
    "GGUF": lambda: b"GGUF" + struct.pack("<IQQ", 3, 0, 0),
    "ONNX": lambda: b"\x08\x07\x12\x07pytorch",
    "7z": lambda: b"7z\xbc\xaf\x27\x1c" + bytes(50),
    "PNG": lambda: b"\x89PNG\r\n\x1a\n" + bytes(100),
    "JSON": lambda: b'{"a": 1}',
    "source": lambda: b"import os\nprint(1)\n",
    "zeros": lambda: bytes(1000),
    "the magic number alone": lambda: saved(legacy=True)[:15],
    "the first bytes of a zip": lambda: b"PK\3\4",
    "an empty zip": lambda: b"PK\5\6" + bytes(18),
    "nothing": lambda: b"",
}


def raised(load: Callable[..., Any], raw: bytes, **options: Any) -> Exception | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            load(io.BytesIO(raw), **options)
        except Exception as error:  # noqa: BLE001 - its class is the question
            return error
    return None


def ours(raw: bytes, **options: Any) -> Exception | None:
    return raised(safeload.load, raw, policy={"unpinned": "allow"}, lock=False, **options)


def assert_caught(raw: bytes) -> None:
    for weights_only in (None, True, False):
        theirs, found = raised(torch.load, raw, weights_only=weights_only), ours(raw, weights_only=weights_only)
        assert theirs is not None
        assert isinstance(found, SafeloadError), found
        if isinstance(theirs, MEANT):
            assert isinstance(found, next(kind for kind in MEANT if isinstance(theirs, kind))), (theirs, found)


@pytest.mark.parametrize("kind", list(FOREIGN))
def test_a_file_that_is_no_checkpoint_raises_what_torch_raises(kind: str) -> None:
    assert_caught(FOREIGN[kind]())


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_that_was_cut_off_raises_what_torch_raises(legacy: bool) -> None:
    """Where it was cut decides: EOFError between two streams, UnpicklingError in one, RuntimeError in a zip or a storage."""
    raw = saved(legacy=legacy)
    for end in range(1, len(raw), max(1, len(raw) // 97)):
        assert_caught(raw[:end])


def test_which_class_says_what() -> None:
    """A foreign format, a foreign format that is refused besides, and a file that ends too early can be told apart."""
    assert type(ours(FOREIGN["gzip"]())) is NotBuiltError
    refused = ours(FOREIGN["a Keras archive"]())
    assert type(refused) is RefusedFormatError
    assert refused.findings
    assert type(ours(saved(legacy=True)[:-1])) is TruncatedError
    assert type(ours(b"")) is EmptyFileError


def test_a_stream_that_is_cut_off_and_names_something_dangerous_is_refused() -> None:
    """That it ends early is no excuse: an unpickler would have run what comes before."""
    error = ours(b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R}")
    assert isinstance(error, RefusedError)
    assert error.globals == ("os.system",)

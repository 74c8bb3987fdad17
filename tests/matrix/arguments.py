"""Every argument and setting that changes a load, to be crossed with every kind of object."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import torch as typed_torch

from tests.matrix.outcome import Argument

__all__ = ["ARGUMENTS"]

torch: Any = typed_torch  # settings without types


def _none(storage: Any, tag: str) -> Any:
    return None


def _itself(storage: Any, tag: str) -> Any:
    return storage


def _to_meta(storage: Any, tag: str) -> Any:
    return torch.UntypedStorage(storage.nbytes(), device="meta")


@contextmanager
def _config(**settings: Any) -> Iterator[None]:
    from torch.utils.serialization import config

    before = {name: getattr(config.load, name) for name in settings}
    try:
        for name, value in settings.items():
            setattr(config.load, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(config.load, name, value)


def _fake() -> AbstractContextManager[Any]:
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode: AbstractContextManager[Any] = FakeTensorMode()
    return mode


def _skip_data() -> AbstractContextManager[Any]:
    found: AbstractContextManager[Any] = torch.serialization.skip_data()
    return found


def _endianness(name: str) -> AbstractContextManager[Any]:
    return _config(endianness=getattr(torch.serialization.LoadEndianness, name))


_MOVED: Final = "puts every storage there"
_SAME: Final = "the same"
_NO_MEMORY: Final = "makes tensors without memory"

ARGUMENTS: Final[tuple[Argument, ...]] = (
    Argument(name="a path", by_path=True, torch="opens it; a second time to map it", ours="opens it once"),
    Argument(name='map_location="cpu"', given={"map_location": "cpu"}, torch=_MOVED, ours=_SAME),
    Argument(name="map_location=torch.device('cpu')", given={"map_location": torch.device("cpu")}, torch=_MOVED, ours=_SAME),
    Argument(name="map_location={}", given={"map_location": {}}, torch="leaves tags that are not in it", ours=_SAME),
    Argument(name='map_location={"cpu": "cpu"}', given={"map_location": {"cpu": "cpu"}}, torch="replaces tags", ours=_SAME),
    Argument(
        name="map_location=function, gives None", given={"map_location": _none},
        torch="calls it for each storage, in a legacy stream before its bytes are read", ours="calls it when the bytes are verified",
    ),
    Argument(
        name="map_location=function, gives its storage", given={"map_location": _itself}, torch="takes what it gives", ours=_SAME,
    ),
    Argument(name='map_location="meta"', given={"map_location": "meta"}, numberless=True, torch=_NO_MEMORY, ours=_SAME),
    Argument(
        name="map_location=torch.device('meta')", given={"map_location": torch.device("meta")}, numberless=True,
        torch=_NO_MEMORY, ours=_SAME,
    ),
    Argument(name='map_location={"cpu": "meta"}', given={"map_location": {"cpu": "meta"}}, numberless=True, torch=_NO_MEMORY, ours=_SAME),
    Argument(
        name="map_location=function, gives meta storages", given={"map_location": _to_meta}, numberless=True, torch=_NO_MEMORY, ours=_SAME,
    ),
    Argument(
        name='map_location=b"cpu"', given={"map_location": b"cpu"},
        torch="accepts bytes and then trips over them (TypeError)", ours="takes them for the text",
    ),
    Argument(
        name='map_location="cuda", without a GPU', given={"map_location": "cuda"}, torch="RuntimeError",
        ours="the same text, as an error that is a RuntimeError",
    ),
    Argument(
        name="map_location=3", given={"map_location": 3}, torch="TypeError", ours="an error that is a TypeError",
    ),
    Argument(
        name="mmap=True, a path", given={"mmap": True}, by_path=True, torch="maps zips without a look at sizes; RuntimeError for legacy",
        ours="maps what is stored as it is, copies the rest; the same error",
    ),
    Argument(name="mmap=True, a stream", given={"mmap": True}, torch="ValueError", ours="an error that is a ValueError"),
    Argument(name="mmap=False", given={"mmap": False}, torch="copies", ours=_SAME),
    Argument(
        name="config.load.mmap = True, a path", by_path=True, around=lambda: _config(mmap=True), torch="as mmap=True",
        ours="maps where it can, and copies where torch fails",
    ),
    Argument(name="weights_only=True", given={"weights_only": True}, torch="as without", ours=_SAME),
    Argument(
        name="weights_only=False", given={"weights_only": False}, torch="runs what the file says",
        ours="runs nothing from the file: classes are made when policy grants their names",
    ),
    Argument(name='encoding="latin1"', given={"encoding": "latin1"}, torch="decodes Python 2's text", ours=_SAME),
    Argument(name='encoding="bytes"', given={"encoding": "bytes"}, torch="leaves Python 2's text as bytes", ours=_SAME),
    Argument(name="a keyword that does not exist", given={"foo": 1}, torch="TypeError", ours="an error that is a TypeError"),
    Argument(name="FakeTensorMode", around=_fake, numberless=True, torch="makes fake tensors; legacy ones on meta", ours=_SAME),
    Argument(
        name="skip_data", around=_skip_data, numberless=True, blank=True, torch="reads no bytes of storages", ours=_SAME,
    ),
    Argument(
        name="set_default_load_endianness(BIG)", around=lambda: _endianness("BIG"),
        torch="for zips that do not say their byte order", ours=_SAME,
    ),
)  # fmt: skip

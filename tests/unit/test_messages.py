"""What a refusal says, word for word. `UPDATE_GOLDEN=1 pytest tests/unit/test_messages.py` writes it anew: read the diff."""

from __future__ import annotations

import io
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import safeload
from safeload.errors import PinError, RefusedError, SafeloadError
from tests import forge
from tests.forge_cli import UNKNOWN, pickle_of_global, replace_member, write_checkpoint, write_hostile

GOLDEN = Path(__file__).parents[1] / "golden" / "messages"
PACKAGE = Path(safeload.__file__).parent


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty directory: nothing above it is in force."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAFELOAD_LOCK", raising=False)
    return tmp_path


def compare(name: str, error: BaseException) -> None:
    """Compare with the file that is kept, or write it."""
    path = GOLDEN / f"{name}.txt"
    text = f"{type(error).__name__}\n{error}\n".replace(str(Path.cwd()), "/work")
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path} is another; UPDATE_GOLDEN=1 writes it anew"


def training_run() -> bytes:
    """What a training script keeps: options, a layer, a class of its own, a numpy generator of an object dtype."""
    names = (("argparse", "Namespace"), ("torch.nn.modules.linear", "Linear"), ("__main__", "Net"), ("omegaconf.dictconfig", "DictConfig"))
    calls = (part for module, name in names for part in (forge.GLOBAL(module, name), forge.EMPTY_TUPLE, forge.NEWOBJ))
    return forge.stream(forge.PROTO(2), forge.MARK, *calls, forge.LIST, forge.STOP)


def in_checkpoint(path: Path, stream: bytes) -> None:
    """A torch archive with another pickle in it."""
    write_checkpoint(path)
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
    replace_member(path, name, stream)


def make(name: str) -> Callable[[Callable[[Path], Any]], Callable[[Path], Any]]:
    """Register what makes a case."""

    def register(function: Callable[[Path], Any]) -> Callable[[Path], Any]:
        CASES[name] = function
        return function

    return register


CASES: dict[str, Callable[[Path], Any]] = {}


@make("unknown_class")
def _unknown(here: Path) -> Any:
    (here / "unknown.pkl").write_bytes(UNKNOWN)
    return "unknown.pkl"


@make("training_run")
def _training(here: Path) -> Any:
    in_checkpoint(here / "last.ckpt", training_run())
    return "last.ckpt"


@make("stream")
def _stream(here: Path) -> Any:
    return io.BytesIO(training_run())


@make("runs_code")
def _hostile(here: Path) -> Any:
    write_hostile(here / "hostile.pt")
    return "hostile.pt"


@make("runs_code_among_others")
def _mixed(here: Path) -> Any:
    stream = forge.stream(
        forge.PROTO(2), forge.MARK, forge.GLOBAL("argparse", "Namespace"), forge.EMPTY_TUPLE, forge.NEWOBJ,
        forge.GLOBAL("subprocess", "run"), forge.TEXT("true"), forge.TUPLE1, forge.REDUCE,
        forge.GLOBAL("builtins", "eval"), forge.LIST, forge.STOP,
    )  # fmt: skip
    in_checkpoint(here / "mixed.pt", stream)
    return "mixed.pt"


@make("never_granted")
def _never(here: Path) -> Any:
    (here / "partial.pkl").write_bytes(pickle_of_global("builtins", "print"))
    return "partial.pkl"


@make("hostile_names")
def _names(here: Path) -> Any:
    (here / "names.pkl").write_bytes(pickle_of_global("acme\x1b[2J", "x\r\n`y`\u202e"))
    return "names.pkl"


@make("odd_path")
def _path(here: Path) -> Any:
    (here / 'my "model" $(x).pkl').write_bytes(UNKNOWN)
    return 'my "model" $(x).pkl'


@make("hostile_path")
def _hostile_path(here: Path) -> Any:
    (here / "a\x1b[2Jb.pkl").write_bytes(UNKNOWN)
    return "a\x1b[2Jb.pkl"


@make("structure")
def _structure(here: Path) -> Any:
    write_checkpoint(here / "short.pt")
    replace_member(here / "short.pt", "short/data/0", bytes(3))
    return "short.pt"


@make("second_stream")
def _second(here: Path) -> Any:
    (here / "two.pkl").write_bytes(pickle.dumps({"a": 1}, 2) + UNKNOWN)
    return "two.pkl"


@make("many_classes")
def _many(here: Path) -> Any:
    names = (part for i in range(130) for part in (forge.GLOBAL("acme.layers", f"Layer{i:03}"), forge.EMPTY_TUPLE, forge.NEWOBJ))
    (here / "many.pkl").write_bytes(forge.stream(forge.PROTO(2), forge.MARK, *names, forge.LIST, forge.STOP))
    return "many.pkl"


@pytest.mark.parametrize("name", list(CASES))
def test_a_refusal_says_all_there_is_and_where_it_goes_on(name: str, here: Path) -> None:
    """One message: every reason, what each global is for, and the ways that are open."""
    file = CASES[name](here)
    with pytest.raises(RefusedError) as caught:
        safeload.load(file, policy={"unpinned": "allow"}, lock=False)
    compare(name, caught.value)


def test_a_file_that_nobody_pinned(here: Path) -> None:
    """Where pins are asked for, the way to one is named."""
    write_checkpoint(here / "model.pt")
    with pytest.raises(PinError) as caught:
        safeload.load("model.pt", policy={"unpinned": "refuse"}, lock=False)
    compare("unpinned", caught.value)


def test_other_bytes_than_the_pinned_ones(here: Path) -> None:
    """Both digests are shown."""
    write_checkpoint(here / "model.pt")
    safeload.lock("model.pt")
    replace_member(here / "model.pt", "model/data/0", bytes(24))
    with pytest.raises(PinError) as caught:
        safeload.load("model.pt")
    compare("other_bytes", caught.value)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("not_a_model", b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"),
        ("page", b"<!DOCTYPE html><html><head><title>404</title></head></html>"),
        ("empty", b""),
        ("cut_off", b"\x80\x02}q\x00X\x01\x00\x00"),
    ],
)
def test_what_is_no_model_is_named(name: str, data: bytes, here: Path) -> None:
    """Not as an unsafe pickle: as what it is."""
    (here / "model.bin").write_bytes(data)
    with pytest.raises(SafeloadError) as caught:
        safeload.load("model.bin", policy={"unpinned": "allow"}, lock=False)
    compare(name, caught.value)


def test_what_is_offered_leads_somewhere(here: Path) -> None:
    """Every way in the message is taken here."""
    pytest.importorskip("torch")
    file = CASES["training_run"](here)
    allow: dict[str, Any] = {"policy": {"unpinned": "allow"}, "lock": False}
    with pytest.raises(RefusedError) as caught:
        safeload.load(file, **allow)
    hint = caught.value.hint
    assert safeload.load(file, unknown="inert", **allow)[0].global_name == "argparse.Namespace"
    snippet = "\n".join(line[6:] for line in hint.splitlines() if line.startswith("      "))
    (here / "safeload.toml").write_text(snippet.replace("[tool.safeload]\n", ""))
    with pytest.raises(SafeloadError) as later:
        safeload.load(file, lock=False)
    # Granted, and so no longer refused; omegaconf and the program's class are not installed here.
    assert not isinstance(later.value, RefusedError)
    assert re.search(r"safeload lock last\.ckpt( --allow-global [\w.]+){4}", hint)


def test_no_text_of_ours_recommends_running_the_file() -> None:
    """The message that torch gives has led people to a flag that runs whatever is in the file."""
    advice = re.compile(r"weights_only\s*=\s*False", re.IGNORECASE)
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.md"), *GOLDEN.rglob("*.txt")]:
        assert not advice.search(path.read_text(encoding="utf-8")), path

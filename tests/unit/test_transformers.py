"""transformers reads what `safeload convert` writes: the same weights, the tied ones tied again."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers: Any = pytest.importorskip("transformers")  # of its types, mypy would read thousands of files

import safeload  # noqa: E402
from safeload.cli import run  # noqa: E402
from safeload.conversion import check  # noqa: E402
from tests.compare import assert_same  # noqa: E402

pytestmark = pytest.mark.torch

SMALL = {"vocab_size": 99}
BERT = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, **SMALL}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What the library warns of in itself is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def bert() -> Any:
    return transformers.BertModel(transformers.BertConfig(num_hidden_layers=2, **BERT))


def masked() -> Any:
    return transformers.BertForMaskedLM(transformers.BertConfig(num_hidden_layers=1, **BERT))


def gpt2() -> Any:
    more = {"bos_token_id": 1, "eos_token_id": 1}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=20, **SMALL, **more))


def t5() -> Any:
    return transformers.T5ForConditionalGeneration(transformers.T5Config(d_model=32, d_kv=8, d_ff=40, num_layers=1, num_heads=4, **SMALL))


TIED = {
    masked: {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}, gpt2: {"lm_head.weight"},
    t5: {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}, bert: set(),
}  # fmt: skip
MODELS = [bert, masked, gpt2, t5]


def saved(make: Callable[[], Any], folder: Path, *, backwards: bool = False) -> Any:
    """A directory as models were published before safetensors: a configuration and a pickle."""
    torch.manual_seed(11)
    model = make().eval()
    model.config.save_pretrained(folder)
    state = model.state_dict()
    torch.save(dict(reversed(state.items())) if backwards else state, folder / "pytorch_model.bin")
    return model


def reads(model: Any, folder: Path) -> None:
    """Take the pickle away, and compare what `from_pretrained` makes of the rest."""
    for old in folder.glob("*.bin*"):
        old.unlink()
    again, info = type(model).from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    expected, found = model.state_dict(), again.state_dict()
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name
    storages = [tensor.untyped_storage().data_ptr() for tensor in found.values()]
    tied = [tensor.untyped_storage().data_ptr() for tensor in expected.values()]
    assert [storages.index(one) for one in storages] == [tied.index(one) for one in tied]


@pytest.mark.parametrize("backwards", [False, True], ids=["as registered", "backwards"])
@pytest.mark.parametrize("make", MODELS)
def test_tied_weights_are_written_once(make: Callable[[], Any], tmp_path: Path, *, backwards: bool) -> None:
    """Under the name that the others are tied to, in whatever order the file has them."""
    model = saved(make, tmp_path, backwards=backwards)
    assert run(["convert", "--transformers", str(tmp_path / "pytorch_model.bin")]) == 0
    with safeload.open(tmp_path / "model.safetensors", lock=False) as file:
        assert set(file.keys()) == set(model.state_dict()) - TIED[make]
        assert file.metadata()["format"] == "pt"
    assert check(tmp_path / "pytorch_model.bin", tmp_path / "model.safetensors").same
    reads(model, tmp_path)


@pytest.mark.parametrize("make", MODELS)
def test_a_lossless_conversion_is_read_as_well(make: Callable[[], Any], tmp_path: Path) -> None:
    model = saved(make, tmp_path)
    assert run(["convert", "--tree", str(tmp_path)]) == 0
    assert_same(safeload.load(tmp_path / "model.safetensors", lock=False), torch.load(tmp_path / "pytorch_model.bin"))
    reads(model, tmp_path)


@pytest.mark.parametrize("options", [["--transformers"], []])
def test_shards_and_their_index_are_read(options: list[str], tmp_path: Path) -> None:
    model = saved(gpt2, tmp_path)
    assert run(["convert", *options, "--max-shard-size", "20KB", str(tmp_path / "pytorch_model.bin")]) == 0
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 2
    reads(model, tmp_path)


@pytest.mark.parametrize("options", [["--transformers"], []])
def test_a_pickle_in_several_files_becomes_one(options: list[str], tmp_path: Path) -> None:
    model = saved(bert, tmp_path)
    state = torch.load(tmp_path / "pytorch_model.bin")
    (tmp_path / "pytorch_model.bin").unlink()
    table = {}
    for number, names in enumerate((list(state)[::2], list(state)[1::2]), 1):
        file = f"pytorch_model-{number:05d}-of-00002.bin"
        torch.save({name: state[name] for name in names}, tmp_path / file)
        table.update(dict.fromkeys(names, file))
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": table}))
    assert run(["convert", *options, str(index)]) == 0
    reads(model, tmp_path)


def test_a_checkpoint_around_the_weights_is_left_out(tmp_path: Path) -> None:
    model = saved(bert, tmp_path)
    state = torch.load(tmp_path / "pytorch_model.bin")
    torch.save({"epoch": 3, "model": state, "optimizer": {"m": torch.ones(3)}}, tmp_path / "last.bin")
    (tmp_path / "pytorch_model.bin").unlink()
    assert run(["convert", "--transformers", str(tmp_path / "last.bin"), str(tmp_path / "model.safetensors")]) == 0
    assert check(tmp_path / "last.bin", tmp_path / "model.safetensors").same
    reads(model, tmp_path)

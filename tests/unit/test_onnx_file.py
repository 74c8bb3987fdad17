"""ONNX models: files that they make programs open, operators that nobody here knows, functions without an end, forged messages."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

import safeload
from safeload.errors import UnsupportedError
from safeload.findings import Level, Outcome, Report
from safeload.formats.beside import described_by
from safeload.formats.onnx_file import OnnxFile
from safeload.formats.onnx_tensor import location_problems
from safeload.inspection import inspect
from safeload.source import Source
from tests.forge_onnx import attribute, external, function, graph, model, nested, node, tensor, training
from tests.forge_protobuf import fixed, msg, number, packed, tag, varint
from tests.unit.test_zip_file import zipped


def scan(data: bytes) -> Report:
    return safeload.scan(data, policy={}, lock=False)


def rules(data: bytes, outcome: Outcome = Outcome.REFUSED) -> set[str]:
    report = scan(data)
    assert report.format == "onnx"
    assert report.decision.outcome is outcome, report.decision
    return {item.rule for item in report.findings if item.level is not Level.NOTE}


ALLOWED = model(
    node("Add"),
    node("If", "", attribute("then_branch", msg(6, graph(node("Relu"))), kind=5), attribute("else_branch", msg(6, graph(node("Neg"))))),
    node("Constant", "", attribute("value", msg(5, tensor("c")), kind=4)),
    node("FusedMatMul", "com.microsoft"),
    node("Scaler", "ai.onnx.ml"),
    node("Twice", "local"),
    tensors=[tensor("w", (2, 2), 1, bytes(16)), tensor("s", (3,), 8, None, *(msg(6, "text") for _ in range(3)))],
    functions=[function("Twice", "local", node("Add"), node("Add", "ai.onnx"))],
    more=msg(14, msg(1, "author"), msg(2, "somebody")),
)


def test_a_writers_version_may_have_lines() -> None:
    """CatBoost's does; other controls in a name are no writer's."""
    assert rules(model(node("Add"), more=msg(3, "Git info:\n\tbranch 1\n")), Outcome.ALLOWED) == set()
    assert scan(model(node("Add"), more=msg(3, "a\0b"))).format == "unknown"


def test_an_ordinary_model_is_allowed_and_listed() -> None:
    report = scan(ALLOWED)
    assert report.decision.outcome is Outcome.ALLOWED
    assert report.findings == ()
    shown = inspect(ALLOWED, lock=False)
    assert [(item.name, item.dtype, item.shape, item.nbytes) for item in shown.tensors] == [
        ("c", "FLOAT", (2,), 8),
        ("w", "FLOAT", (2, 2), 16),
        ("s", "STRING", (3,), 0),
    ]
    assert shown.metadata["operator sets"] == "ai.onnx 17"
    assert shown.metadata["functions"] == "1"
    assert shown.metadata["property author"] == "somebody"


@pytest.mark.torch
def test_it_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(ALLOWED)
    with pytest.raises(UnsupportedError, match="the file is onnx, which can be scanned, locked and verified"):
        safeload.load(path, lock=False)


def test_it_is_locked_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.onnx").write_bytes(ALLOWED)
    assert safeload.lock("m.onnx").outcome is Outcome.ALLOWED
    assert safeload.verify().outcome is Outcome.ALLOWED


def test_a_member_of_an_archive_is_read_too() -> None:
    report = scan(zipped({"a/model.onnx": model(node("Mine", "my.company"))}))
    assert report.decision.outcome is Outcome.REFUSED
    assert [(item.rule, item.member) for item in report.findings] == [("SL712", "a/model.onnx")]


# ---- files: CVE-2022-25882, CVE-2024-27318, CVE-2025-51480, CVE-2026-27489, CVE-2026-34445, CVE-2026-34447


@pytest.mark.parametrize(
    "location",
    [
        "../../../etc/passwd", "..", "data/../../x", "a/..\\..\\x", "..\\x", "/etc/passwd", "\\\\host\\share\\x", "C:\\x", "c:x",
        "file:///etc/passwd", "http://host/x", "data\0.bin", "a\nb", "~/.ssh/id_rsa", "$HOME/x", "%TEMP%/x", "", ".",
        "*/_ORT_MEM_ADDR_/*",
    ],
)  # fmt: skip
def test_a_file_outside_of_the_models_directory_is_an_error(location: str) -> None:
    """However the name is spelt: the fixes of loaders missed one spelling after the other."""
    assert list(location_problems(location))
    assert rules(model(tensors=[external(location)])) == {"SL711"}
    assert rules(model(tensors=[external(location, flag=False)])) == {"SL711"}


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "an initializer": lambda bad: model(tensors=[bad]),
    "a constant": lambda bad: model(node("Constant", "", attribute("value", msg(5, bad)))),
    "a list of tensors": lambda bad: model(node("Constant", "", attribute("v", msg(10, tensor()), msg(10, bad)))),
    "a sparse initializer": lambda bad: model(whole=graph(node(), more=msg(15, msg(1, bad), msg(2, tensor("i"))))),
    "a sparse tensor's indices": lambda bad: model(whole=graph(node(), more=msg(15, msg(1, tensor()), msg(2, bad)))),
    "a sparse constant": lambda bad: model(node("Constant", "", attribute("v", msg(22, msg(1, bad), msg(2, tensor()))))),
    "a branch": lambda bad: model(node("If", "", attribute("then_branch", msg(6, graph(tensors=[bad]))))),
    "a list of graphs": lambda bad: model(node("X", "", attribute("b", msg(11, graph()), msg(11, graph(tensors=[bad]))))),
    "a function": lambda bad: model(functions=[function("F", "d", node("Constant", "", attribute("value", msg(5, bad))))]),
    "a function's default": lambda bad: model(functions=[function("F", "d", node(), more=msg(11, attribute("a", msg(5, bad))))]),
    "training": lambda bad: model(more=msg(20, training(graph(), graph(tensors=[bad])))),
}


@pytest.mark.parametrize("way", WAYS)
def test_wherever_a_tensor_stands_its_file_is_looked_at(way: str) -> None:
    assert "SL711" in rules(WAYS[way](external("../x")))


def test_data_beside_the_model_is_a_note() -> None:
    """The way in which large models are published."""
    report = scan(model(tensors=[external("model.onnx.data", ("offset", "0"), ("length", "8"))] * 2))
    assert report.decision.outcome is Outcome.ALLOWED
    assert [item.message for item in report.findings] == ["2 tensors have their data in 'model.onnx.data', up to byte 8"]
    assert {item.rule for item in scan(model(tensors=[external("sub/weights..v2.bin")])).findings} == {"SL718"}


@pytest.mark.parametrize(
    "pairs",
    [
        (("offset", "-1"),),
        (("offset", "1e9"),),
        (("length", "9" * 30),),
        (("basepath", "/etc"),),
        (("__class__", "x"),),
        (("read", "x"),),
        (("location", "../x"),),
        (("length", "9999999"), ("length", "8")),
    ],
)
def test_entries_that_the_format_does_not_have_are_errors(pairs: tuple[tuple[str, str], ...]) -> None:
    """A loader set each as an attribute of an object of its own (CVE-2026-34445)."""
    assert rules(model(tensors=[external("data.bin", *pairs)])) == {"SL711"}


def test_a_length_that_is_not_the_tensors_is_an_error() -> None:
    assert rules(model(tensors=[external("data.bin", ("length", "4000000000"))])) == {"SL715"}


def test_a_link_beside_the_model_may_not_lead_away(tmp_path: Path) -> None:
    """CVE-2026-34447: the name is harmless, and what lies there is a link."""
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "m.onnx"
    path.write_bytes(model(tensors=[external("data.bin")]))
    (tmp_path / "secret").write_bytes(bytes(64))
    assert safeload.scan(path, lock=False).decision.outcome is Outcome.ALLOWED
    (folder / "data.bin").symlink_to(tmp_path / "secret")
    report = safeload.scan(path, lock=False)
    assert report.decision.outcome is Outcome.REFUSED
    assert "is a link that leads out of its directory" in report.findings[0].message
    (folder / "data.bin").unlink()
    (folder / "data.bin").mkdir()
    assert safeload.scan(path, lock=False).decision.outcome is Outcome.REFUSED


def test_the_caches_of_hubs_are_made_of_links(tmp_path: Path) -> None:
    """Model and data are links to files of one directory; refusing that would refuse most models that people have."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "1").write_bytes(model(tensors=[external("data.bin")]))
    (blobs / "2").write_bytes(bytes(8))
    (snapshot / "m.onnx").symlink_to("../../blobs/1")
    (snapshot / "data.bin").symlink_to("../../blobs/2")
    assert safeload.scan(snapshot / "m.onnx", lock=False).decision.outcome is Outcome.ALLOWED


def test_data_that_is_too_short_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model(tensors=[external("data.bin", ("offset", "4096"))]))
    (tmp_path / "data.bin").write_bytes(bytes(100))
    report = safeload.scan(path, lock=False)
    assert {item.rule for item in report.findings} == {"SL715", "SL718"}


# ---- operators and functions


@pytest.mark.parametrize(
    ("name", "domain", "rule"),
    [
        ("Mine", "my.company", "SL712"),
        ("Adder", "", "SL712"),
        ("add", "", "SL712"),
        ("Add", "ai.onnx.ml", "SL712"),
        ("Add ", "", "SL712"),
        ("Add", "com.micros\u043eft", "SL712"),
        ("", "", "SL712"),
        ("ATen", "org.pytorch.aten", "SL712"),
        ("EPContext", "com.microsoft", "SL712"),
        ("PythonOp", "com.microsoft", "SL713"),
        ("PyOp", "ai.onnx.contrib", "SL713"),
        ("PyOp", "my.company", "SL713"),
        ("AzureTritonInvoker", "com.microsoft.extensions", "SL713"),
    ],
)
def test_an_operator_out_of_a_library_cannot_be_judged(name: str, domain: str, rule: str) -> None:
    found = rules(model(node(name, domain)))
    assert found == {rule}
    branch = model(node("Loop", "", attribute("body", msg(6, graph(node(name, domain))))))
    assert rules(branch) == {rule}
    assert rules(model(functions=[function("F", "d", node(name, domain))])) == {rule}


def test_an_operator_of_torch_that_reaches_files_is_an_error() -> None:
    assert rules(model(node("ATen", "org.pytorch.aten", attribute("operator", msg(4, "from_file"))))) == {"SL712", "SL713"}


def test_compiled_code_from_elsewhere_is_an_error() -> None:
    parts = (attribute("embed_mode", number(3, 0)), attribute("ep_cache_context", msg(4, "../../x.bin")))
    assert rules(model(node("EPContext", "com.microsoft", *parts))) == {"SL711", "SL712"}


def test_functions_are_judged_by_their_bodies() -> None:
    """A function of the model's own is no custom operator; a node that names another overload is one."""
    assert rules(model(node("F", "d"), functions=[function("F", "d", node("Add"))]), Outcome.ALLOWED) == set()
    assert rules(model(node("F", "d", overload="o"), functions=[function("F", "d", node("Add"))])) == {"SL712"}


@pytest.mark.parametrize(
    "functions",
    [
        [function("F", "d", node("F", "d"))],
        [function("F", "d", node("G", "d")), function("G", "d", node("H", "d")), function("H", "d", node("F", "d"))],
        [function("F", "d", node("If", "", attribute("then_branch", msg(6, graph(node("F", "d"))))))],
        [function("Add", "", node("Mul"))],
        [function("Add", "ai.onnx", node("Mul"))],
        [function(f"F{index}", "d", node(f"F{index + 1}", "d"), node(f"F{index + 1}", "d")) for index in range(40)]
        + [function("F40", "d", node("Add"))],
    ],
    ids=["itself", "circle", "branch", "takes a name", "takes a name by the other domain", "doubles"],
)
def test_functions_that_do_not_end_or_deceive_are_errors(functions: list[bytes]) -> None:
    assert rules(model(functions=functions)) == {"SL716"}


def test_a_long_chain_of_functions_is_no_circle() -> None:
    """And needs no stack."""
    chain = [function(f"F{index}", "d", node(f"F{index + 1}", "d")) for index in range(5000)] + [function("F5000", "d", node("Add"))]
    assert rules(model(node("F0", "d"), functions=chain), Outcome.ALLOWED) == set()


# ---- forged messages


@pytest.mark.parametrize(
    "data",
    [
        model(whole=tag(1, 2) + varint(1 << 40)),
        model(whole=tag(1, 3)),
        model(node("Add") + tag(4, 2) + b"\x7f"),
        model(node("Add") + msg(4, "Mul")),
        model(more=msg(7, graph(node("Mine", "hidden")))),
        model(node("Add") + number(7, 5)),
        model(tensors=[tensor() + msg(9, bytes(8))]),
        model(tensors=[tensor() + number(2, 1)]),
        model(functions=[function("F", "d", node("Add")), function("F", "d", node("Mul"))]),
        nested(40),
        model()[:-1],
        number(1, 8) + msg(2, "pytorch") + msg(7, graph(node()), length=1 << 33),
    ],
    ids=[
        "length", "group", "cut node", "two names", "two graphs", "wire type", "two raw data", "two types", "two functions", "deep",
        "cut", "a graph beyond the end",
    ],
)  # fmt: skip
def test_what_two_parsers_read_in_two_ways_is_an_error(data: bytes) -> None:
    assert "SL714" in rules(data)


def test_a_graph_within_the_bounds_of_parsers_is_read() -> None:
    assert rules(nested(20), Outcome.ALLOWED) == set()


@pytest.mark.parametrize(
    "bad",
    [
        tensor(dims=(3,)),
        tensor(dims=(1 << 61,)),
        tensor(dims=(-1,)),
        tensor(dims=(1 << 40, 1 << 40)),
        tensor(kind=99),
        tensor(kind=0),
        tensor(raw=None),
        tensor("w", (2,), 1, None, fixed(4, 1.0)),
        tensor("w", (2,), 7, None, packed(7, 1, 2, 3)),
        tensor("w", (2,), 8, None, msg(6, "a")),
        tensor("w", (2,), 8, bytes(8)),
        tensor("w", (2,), 1, bytes(8), msg(3, number(1, 0), number(2, 1))),
        tensor("w", (2,), 1, bytes(8), number(14, 7)),
        tensor("w", (1 << 30,), 21, bytes(8)),
        tensor("w", (0,), 1, bytes(4)),
    ],
)
def test_a_tensor_that_contradicts_its_bytes_is_an_error(bad: bytes) -> None:
    """Programs take the shape, and read as many bytes as it says."""
    assert "SL715" in rules(model(tensors=[bad]))


@pytest.mark.parametrize(
    "good",
    [
        tensor("w", (0, 5), 1, b""),
        tensor("w", (), 1, bytes(4)),
        tensor("w", (3,), 22, bytes(2)),
        tensor("w", (2,), 10, None, packed(5, 1, 2)),
        tensor("w", (2,), 7, None, packed(7, -1, 1 << 60)),
        tensor("w", (2,), 1, None, msg(4, bytes(8))),
        tensor("w", (1,), 14, None, msg(4, bytes(8))),
        tensor("w", (2,), 7, None, number(7, 1), number(7, 2)),
        number(2, 1) + packed(1, 2, 1) + msg(9, bytes(8)),
    ],
)
def test_every_way_of_writing_numbers_is_taken(good: bytes) -> None:
    assert rules(model(tensors=[good]), Outcome.ALLOWED) == set()


def test_a_field_that_onnx_does_not_have_is_a_warning() -> None:
    assert rules(model(more=msg(99, "x"))) == {"SL717"}
    assert rules(model(node("Add") + number(40, 1))) == {"SL717"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08",
        b"\x08\x01",
        b"\x08\x01\x12\x03\xff\xfe\xfd",
        number(1, 8) + number(5, 1),
        msg(7, graph(node())),
        b"\x08\x08" + bytes(100),
    ],
)
def test_what_is_no_model_is_not_claimed(data: bytes) -> None:
    assert not OnnxFile().claims(Source.open(data))


def test_damaged_models_end_in_findings() -> None:
    rng = random.Random(11)
    for number_ in range(3000):
        data = bytearray(ALLOWED)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        if number_ % 3 == 0:
            del data[rng.randrange(len(data)) :]
        report = scan(bytes(data))
        assert report.decision.reasons != ("not decided",)


def test_numbers_beside_a_model_are_passed_by_in_a_directory(tmp_path: Path) -> None:
    """They have no structure of their own; the model says what they are. What it does not name is not passed by."""
    path = tmp_path / "m.onnx"
    path.write_bytes(model(tensors=[external("weights.bin"), external("more/w.bin")]))
    (tmp_path / "weights.bin").write_bytes(b"\xde\xad\xbe\xef" * 2)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "w.bin").write_bytes(b"\xde\xad\xbe\xef" * 2)
    assert described_by(tmp_path / "weights.bin") == "numbers that 'm.onnx' describes"
    assert described_by(tmp_path / "more" / "w.bin") == "numbers that 'm.onnx' describes"
    assert described_by(tmp_path / "other.bin") is None
    (tmp_path / "bad.onnx").write_bytes(model(tensors=[external("../other.bin"), external("other.bin")], more=b"\xff"))
    assert described_by(tmp_path / "other.bin") is None

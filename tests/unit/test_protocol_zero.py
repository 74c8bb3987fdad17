"""Storages of protocol 0: their ids are text of one form, which is read and never evaluated; any other text is refused."""

from __future__ import annotations

import pytest

from safeload.walk.written_ids import LONGEST_ID, written_id

torch = pytest.importorskip("torch")

from safeload.errors import SafeloadError  # noqa: E402
from tests.compare import assert_same  # noqa: E402
from tests.forge_build import build, torch_zip  # noqa: E402

pytestmark = pytest.mark.torch

ID = "('storage', <class 'torch.FloatStorage'>, '0', 'cpu', 4)"


def stream(written: str) -> bytes:
    """A tensor of four elements over the storage of this id, as protocol 0 writes it."""
    tail = b"\nI0\n(I4\nt(I1\ntI00\nccollections\nOrderedDict\n(tRtR."
    return b"ctorch._utils\n_rebuild_tensor_v2\n(P" + written.encode() + tail


def test_the_form_that_torch_writes() -> None:
    assert written_id(ID) == ("torch.FloatStorage", "0", "cpu", 4)
    assert written_id(ID[:-1] + ", None)") == ("torch.FloatStorage", "0", "cpu", 4)
    value = torch.arange(4.0)
    assert_same(value, build(torch_zip(stream(ID), {"0": value.numpy().tobytes()})))


@pytest.mark.parametrize(
    "written",
    [
        "", "('storage')", ID[:-1], ID + " ", ID.replace("4)", "-4)"), ID.replace("4)", "4.0)"), ID.replace("4)", "5)"),
        ID.replace("'0'", "'1'"),
        ID.replace("'0'", "'\\x30'"), ID.replace("torch.FloatStorage", "os.system"), ID.replace("torch.FloatStorage", "torch.LongStorage"),
        ID.replace("'0'", "'" + "0" * LONGEST_ID + "'"), "('module', <class 'a'>, 'b', 'c')", "__import__('os')",
    ],
)  # fmt: skip
def test_any_other_text_is_refused(written: str) -> None:
    """Among them classes that are no storages, and sizes that are not the record's."""
    with pytest.raises(SafeloadError):
        build(torch_zip(stream(written), {"0": bytes(16)}))


def test_an_instance_of_a_modelled_class_is_one_in_the_oldest_protocols() -> None:
    """They make every object with copyreg._reconstructor; the class decides whether that means anything."""
    import pickle
    import uuid

    value = uuid.UUID(int=7)
    for protocol in (0, 1):
        found = build(pickle.dumps(value, protocol))
        assert (type(found), found) == (uuid.UUID, value)
    for hostile in (b"ctorch\nTensor\n", b"cbuiltins\nbytearray\n", b"ctorch._utils\n_rebuild_tensor\n", b"cbuiltins\ncomplex\n"):
        raw = b"ccopyreg\n_reconstructor\n(" + hostile + b"cbuiltins\nobject\nNtR."
        try:
            built = build(raw)
        except SafeloadError:
            continue
        assert type(built) is torch.Tensor
        assert built.numel() == 0

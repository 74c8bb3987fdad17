"""Digests: what the lockfile pins."""

from __future__ import annotations

import hashlib
import io
import random
from typing import Any

import pytest

from safeload.errors import UsageError
from safeload.source import Source
from safeload.trust.both_digests import file_digests
from safeload.trust.digest import LEAF_BYTES, Digest, TreeHasher, leaf_count, leaf_digest, root_of_leaves

# From docs/lockfile.md; computed by a separate five-line program, not by TreeHasher.
VECTORS = [
    (b"", "6a6210a65beffd761a7d38e067b9d6c50364b507cfb1f7158ffdc0d7b631cfd2"),
    (b"abc", "35e01482307b3b9df0db92a2a63017cd503067b64bf1034120564d007f9136fe"),
    (bytes(LEAF_BYTES), "b32c9ac0586574817f6638e1fa32305919c8809722c5043d1ca5ad64810c2614"),
    (bytes(LEAF_BYTES + 1), "16cdf4d129d2898388c010a99322cba657831b6173464a21ef04277280f741ec"),
]


def by_the_spec(data: bytes) -> str:
    """The definition, written once more without any of our code."""
    leaves = b"".join(hashlib.sha256(data[at : at + 4194304]).digest() for at in range(0, len(data), 4194304))
    return hashlib.sha256(
        b"safeload sha256-tree v1\n" + (4194304).to_bytes(8, "little") + len(data).to_bytes(8, "little") + leaves
    ).hexdigest()


@pytest.mark.parametrize(("data", "want"), VECTORS)
def test_tree_matches_the_published_vectors(data: bytes, want: str) -> None:
    """Another implementer must get the same digest, today and in ten years."""
    hasher = TreeHasher()
    hasher.update(data)
    assert hasher.hexdigest() == want == by_the_spec(data)


@pytest.mark.parametrize("size", [0, 1, LEAF_BYTES - 1, LEAF_BYTES, LEAF_BYTES + 1, 2 * LEAF_BYTES, 2 * LEAF_BYTES + 5])
def test_tree_does_not_depend_on_how_bytes_arrive(size: int) -> None:
    """Sources hand out pieces of any length, across leaf borders too."""
    data = random.Random(size).randbytes(size)
    hasher = TreeHasher()
    at, steps = 0, random.Random(1)
    while at < size:
        step = steps.choice([1, 1000, 1 << 20, (3 << 20) + 7, 9 << 20])
        hasher.update(memoryview(data)[at : at + step])
        at += step
    assert hasher.hexdigest() == by_the_spec(data)
    assert hasher.digest().hex() == hasher.hexdigest()
    assert hasher.size == size
    assert len(hasher.leaves) == leaf_count(size)


def test_asking_for_a_digest_does_not_disturb_it() -> None:
    """Objects of hashlib can be asked at any time; so can this one."""
    hasher = TreeHasher()
    hasher.update(b"ab")
    assert hasher.hexdigest() == by_the_spec(b"ab")
    hasher.update(b"c")
    assert hasher.hexdigest() == by_the_spec(b"abc")


def test_update_counts_bytes_and_not_items() -> None:
    """A view of wider items is the same bytes."""
    hasher = TreeHasher()
    hasher.update(memoryview(bytes(16)).cast("Q"))
    assert (hasher.size, hasher.hexdigest()) == (16, by_the_spec(bytes(16)))


def test_size_is_part_of_the_tree() -> None:
    """The same leaves under another size are another file."""
    leaf = [leaf_digest(b"x")]
    assert root_of_leaves(1, leaf) != root_of_leaves(2, leaf)


@pytest.mark.parametrize(
    ("size", "leaves"),
    [(0, [bytes(32)]), (1, []), (LEAF_BYTES + 1, [bytes(32)]), (1, [bytes(31)]), (-1, []), (LEAF_BYTES + 1, [bytes(31), bytes(33)])],
)
def test_leaves_that_do_not_fit_the_size_are_refused(size: int, leaves: list[bytes]) -> None:
    """A leaf list from a cache is input: two lists must never be cut out of the same bytes."""
    with pytest.raises(UsageError):
        root_of_leaves(size, leaves)


def test_both_digests_come_from_one_pass() -> None:
    """Reading a large file twice would double the cost, and allow two answers."""
    reads = 0

    class Counting(io.BytesIO):
        def readinto(self, buffer: Any, /) -> int:
            nonlocal reads
            count = super().readinto(buffer)
            reads += count
            return count

        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal reads
            data = super().read(size)
            reads += len(data)
            return data

    data = random.Random(0).randbytes(3_000_000)
    with Source.open(Counting(data)) as source:
        assert file_digests(source) == (hashlib.sha256(data).hexdigest(), by_the_spec(data))
        assert file_digests(source)[0] == source.sha256
    assert reads == len(data)


def test_a_digest_prints_with_its_algorithm_and_parses_back() -> None:
    """A bare hex string does not say what it is."""
    digest = Digest("sha256", "ab" * 32)
    assert str(digest) == "sha256:" + "ab" * 32
    assert Digest.parse(str(digest)) == digest
    assert digest.short == "sha256:abababababab"
    assert str(Digest.parse("sha256-tree:" + "0" * 64)).startswith("sha256-tree:")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 64 + "\n",
        "md5:" + "a" * 64,
        "sha256:" + "٣" * 64,
    ],
)
def test_what_is_not_a_digest_is_refused(text: str) -> None:
    """Upper case would make equal digests differ; other digits would make them look alike."""
    with pytest.raises(UsageError):
        Digest.parse(text)

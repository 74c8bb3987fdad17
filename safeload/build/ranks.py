"""Loads of one file by several processes at once: each hashes a share of the leaves, and all accept the file or none does.

Every process reads all bytes into memory of its own, and they need not be the same bytes: a file may lie on another disk of another
machine, or change in between. So whoever hashes a leaf speaks for its own bytes only. Beside the digests of its share a process sends
a keyed fingerprint of every leaf that it holds, under a key that all drew together for this load, and a leaf is believed when all
fingerprints agree with those of the process that hashed it. docs/decisions/0016 says why, and what it is worth.

What is exchanged has a fixed form and is never unpickled. Before each exchange all processes say whether they are still well, so that
one that fails takes part once more, and the others end with its reason instead of waiting for it.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from safeload import errors
from safeload.build import torch_module
from safeload.errors import ArgumentError, GroupError, PinError, SafeloadError, UnsupportedError, UsageError
from safeload.findings import escape
from safeload.hashing.fingerprint import FINGERPRINT_BYTES, key_of, usable
from safeload.lean_dataclass import dataclass
from safeload.one_pass import Share

__all__ = ["Meeting", "Ranks", "together"]

_STATUS_BYTES: Final = 4096
_HEAD: Final = struct.Struct("<4sI8s?")  # a tag, the number of the round, what it is for, whether this process failed
_TAG: Final = b"slg1"
_MEETING: Final = struct.Struct("<QBBB32s32s")  # size, whether a tree is pinned, stamped, quick; the tree, a nonce
_TEXT: Final = struct.Struct("<HH")  # bytes of an error's name, and of its message
_DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Meeting:
    """What the processes of a group agreed on before they read a file.

    Attributes:
        stamped: Every one of them has verified the file before, unchanged since.
        shared: Leaves are hashed in shares: what `Source.together` takes; None when each process hashes for itself.
    """

    stamped: bool
    shared: Shared | None


class Ranks:
    """This process among those that load together.

    Args:
        group: A `torch.distributed.ProcessGroup`.

    Raises:
        ArgumentError: it is none.
        UsageError: this process does not belong to it.
        UnsupportedError: this torch has no process groups.
    """

    def __init__(self, group: Any) -> None:
        torch_module()
        import torch.distributed as dist

        if not dist.is_available():
            raise UnsupportedError("this torch was built without torch.distributed")
        if group == dist.GroupMember.NON_GROUP_MEMBER:
            raise UsageError("this process does not belong to the group", hint="only its members may load with it")
        if not isinstance(group, dist.ProcessGroup):
            raise ArgumentError(f"group is a {escape(type(group).__name__)}, not a torch.distributed process group")
        self._group = group
        self._dist: Any = dist
        self.rank: int = group.rank()
        self.count: int = group.size()
        self._round = 0
        self._over = False  # a round has failed: nobody is waiting any more

    def meet(self, size: int, tree: str | None, *, stamped: bool) -> Meeting:
        """Agree with the others on the file, and draw a key.

        Args:
            size: Bytes of the file.
            tree: Its pinned tree digest, hex; None when it is not known by one.
            stamped: This process need not hash it.

        Raises:
            PinError: others were told to load another file.
            SafeloadError: another process failed before.
        """
        nonce = secrets.token_bytes(32)
        pinned = bytes.fromhex(tree) if tree is not None else bytes(32)
        mine = _MEETING.pack(size, tree is not None, stamped, usable(), pinned, nonce)
        all_said = [_MEETING.unpack(said[: _MEETING.size]) for said in self._statuses("meet", mine)]
        for rank, said in enumerate(all_said):
            if (said[0], said[1], said[4]) != (size, tree is not None, pinned):
                self._over = True
                raise PinError(
                    f"process {rank} of the group loads another file",
                    expected=_named(size, tree),
                    found=_named(said[0], said[4].hex() if said[1] else None),
                    hint="every process must be given the same file, the same lockfile and the same policy",
                )
        if all(said[2] for said in all_said):
            return Meeting(stamped=True, shared=None)
        if tree is None or self.count == 1 or not all(said[3] for said in all_said):
            return Meeting(stamped=False, shared=None)
        key = key_of(hashlib.sha256(b"".join(said[5] for said in all_said)).digest())
        return Meeting(stamped=False, shared=Shared(self, key))

    def settle(self) -> None:
        """Say that this process has what it was to load, and wait until all have.

        Raises:
            SafeloadError: another process failed: nobody may use what it has.
        """
        self._statuses("settle", b"")

    def fail(self, error: BaseException) -> None:
        """Tell the others why this process cannot go on, unless they know."""
        if self._over:
            return
        self._over = True
        name = type(error).__name__.encode()[:100]
        text = (error.message if isinstance(error, SafeloadError) else str(error)).encode("utf-8", "replace")[:2000]
        with suppress(GroupError):
            self._gather(self._status("fail", _TEXT.pack(len(name), len(text)) + name + text))

    def exchange(self, data: bytes) -> list[bytes]:
        """Give every process what all of them have; it must be of one length everywhere.

        Raises:
            SafeloadError: another process failed.
            GroupError: one is lost.
        """
        self._statuses("exchange", b"")
        return self._gather(data)

    # ---- rounds

    def _statuses(self, what: str, said: bytes) -> list[bytes]:
        """One round: what each process says, when all are well and at the same point."""
        mine = self._status(what, said)
        answers = self._gather(mine)
        point = mine[: _HEAD.size]
        self._round += 1
        for rank, answer in enumerate(answers):
            if _HEAD.unpack(answer[: _HEAD.size])[3]:
                self._over = True
                raise _from_another(rank, answer[_HEAD.size :])
        if any(answer[: _HEAD.size] != point for answer in answers):
            self._over = True
            raise GroupError(
                "the processes of the group are not at the same point",
                hint="every process must make the same calls with the group, in the same order, with the same file, lockfile and policy",
            )
        return [answer[_HEAD.size :] for answer in answers]

    def _status(self, what: str, said: bytes) -> bytes:
        return (_HEAD.pack(_TAG, self._round, what.encode(), what == "fail") + said).ljust(_STATUS_BYTES, b"\0")

    def _gather(self, data: bytes) -> list[bytes]:
        import torch

        from safeload.build.storages import memory_of

        if not data:
            return [b""] * self.count
        try:
            device = self._device()
            mine = torch.frombuffer(bytearray(data), dtype=torch.uint8).to(device)
            parts = [torch.empty_like(mine) for _ in range(self.count)]
            self._dist.all_gather(parts, mine, group=self._group)
            return [bytes(memory_of(part.cpu().untyped_storage())) for part in parts]
        except (RuntimeError, ValueError, TypeError) as error:
            self._over = True
            raise GroupError(
                f"a process of the group is lost: {escape(str(error), 500)}",
                hint="it ended, or the network between the processes did; nothing was loaded",
            ) from error

    def _device(self) -> Any:
        """Where this group's backend wants its tensors."""
        import torch

        config = str(self._dist.get_backend_config(self._group))
        kind = "cpu" if "cpu:" in config else config.partition(":")[0]
        return torch.device(kind if kind == "cpu" else f"{kind}:{torch.accelerator.current_device_index()}")


@dataclass(slots=True)
class Shared:
    """The leaves of one file, hashed in shares: what `Source.together` asks.

    Attributes:
        ranks: The processes.
        key: For the fingerprints.
    """

    ranks: Ranks
    key: bytes

    def share(self, count: int) -> Share:
        """This process' share of `count` leaves."""
        return Share(*self._bounds(self.ranks.rank, count), key=self.key)

    def _bounds(self, rank: int, count: int) -> tuple[int, int]:
        return count * rank // self.ranks.count, count * (rank + 1) // self.ranks.count

    def joined(self, share: Share, digests: list[bytes], count: int, where: str) -> list[bytes]:
        """Exchange shares.

        Args:
            share: This process' own, with the fingerprints of all leaves.
            digests: Of its leaves.
            count: Of all leaves.
            where: The file, for messages.

        Returns:
            The digest of every leaf, each of bytes that every process holds.

        Raises:
            PinError: the processes do not hold the same bytes.
            SafeloadError: another process failed.
        """
        own = b"".join(digests).ljust(-(-count // self.ranks.count) * _DIGEST_BYTES, b"\0")
        marks = b"".join(share.fingerprints[number] for number in range(count))
        parts = self.ranks.exchange(own + marks)
        found: list[bytes] = []
        for rank, part in enumerate(parts):
            first, last = self._bounds(rank, count)
            found += [part[at : at + _DIGEST_BYTES] for at in range(0, (last - first) * _DIGEST_BYTES, _DIGEST_BYTES)]
        theirs = [part[len(own) :] for part in parts]
        for rank, seen in enumerate(theirs):
            if seen != theirs[0]:
                number = next(at for at in range(count) if _mark(seen, at) != _mark(theirs[0], at))
                raise PinError(
                    f"process {rank} of the group read other bytes than process 0 in leaf {number} of {count}",
                    where=where,
                    expected=f"fingerprint:{_mark(theirs[0], number).hex()}",
                    found=f"fingerprint:{_mark(seen, number).hex()}",
                    hint="their files differ, or something changed them meanwhile; 'safeload verify' on each machine says which is right",
                ).under("SL601")
        return found


def _mark(marks: bytes, number: int) -> bytes:
    return marks[number * FINGERPRINT_BYTES : (number + 1) * FINGERPRINT_BYTES]


def _named(size: int, tree: str | None) -> str:
    return f"sha256-tree:{tree}, {size} bytes" if tree is not None else f"no pinned tree digest, {size} bytes"


def _from_another(rank: int, said: bytes) -> SafeloadError:
    """The error of another process, as this one raises it: of the same kind where the kind is ours."""
    name_bytes, text_bytes = _TEXT.unpack(said[: _TEXT.size])
    name = said[_TEXT.size : _TEXT.size + name_bytes].decode("utf-8", "replace")
    text = said[_TEXT.size + name_bytes : _TEXT.size + name_bytes + text_bytes].decode("utf-8", "replace")
    found = getattr(errors, name, None)
    kind: type[SafeloadError] = GroupError
    if isinstance(found, type) and issubclass(found, SafeloadError):
        kind = found
    else:
        text = f"{name}: {text}"
    return kind(f"process {rank} of the group did not load it: {escape(text, 2000)}", hint="so no process of the group does")


@contextmanager
def together(group: Any) -> Iterator[Ranks]:
    """Load in step with the other processes of a group: what ends one of them ends all.

    Args:
        group: As for `Ranks`.

    Yields:
        This process among them.

    Raises:
        SafeloadError: another process failed, or is lost.
    """
    ranks = Ranks(group)
    try:
        yield ranks
    except Exception as error:
        ranks.fail(error)
        raise
    ranks.settle()

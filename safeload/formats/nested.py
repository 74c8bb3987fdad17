"""Members that are files of their own: each is read by whichever reader claims its content, as a file beside the archive would be.

What one small archive may cost is bounded for the whole tree of archives in it, not for each level: a `Budget` goes down with
the `Reading`. Deflated members are unpacked as far as their reader asks and no farther, so that a member of gigabytes that
turns out to be one array costs its first bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from safeload.errors import LimitError, MalformedError, SafeloadError
from safeload.findings import escape
from safeload.formats.base import Contents
from safeload.formats.container import Archive, Member, qualified
from safeload.formats.not_a_model import diagnose, plainly_no_model
from safeload.formats.storages import as_finding
from safeload.formats.zip_methods import METHODS, unpack_member
from safeload.formats.zip_read import check_crc, iter_member
from safeload.lean_dataclass import dataclass, field, replace
from safeload.source import Limits, Reading, Source
from safeload.walk import finding

__all__ = ["Budget", "InnerReading", "Members", "Seen", "Unpacked", "inner_reading", "oddly_packed", "read_members", "too_deep"]

Seen = Callable[[Member, Contents], None]

_SMALL: Final = 1 << 20
_NAMED: Final = 8  # members named in a message

# What is granted whatever the size of the file, and how much more for each of its bytes. The memory bounds what evidence keeps
# alive; the work bounds how many bytes are unpacked in all, discarded ones included (some hundred MB a second).
_MEMORY: Final = (256 << 20, 16)
_WORK: Final = (1 << 30, 64)
_MEMBERS: Final = (20_000, 1 / 32)


@dataclass(slots=True)
class Budget:
    """What is left to spend on one file and all that lies in it: bytes kept, bytes unpacked, members looked at."""

    memory: int
    work: int
    members: int

    @classmethod
    def of(cls, size: int, limits: Limits) -> Budget:
        """The budget of a file of `size` bytes."""
        memory, work, members = (int(base + size * factor) for base, factor in (_MEMORY, _WORK, _MEMBERS))
        return cls(min(memory, limits.inflate_bytes), min(work, limits.inflate_bytes), min(members, limits.members))

    def spend(self, nbytes: int, size: int) -> None:
        """Pay for bytes that were unpacked.

        Raises:
            LimitError: there is nothing left for them; `size` is what the whole unpacks to.
        """
        self.work -= nbytes
        if self.work < 0:
            raise LimitError(f"unpacks to {size} bytes, more than is granted to the members of this file").under("SL208")


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerReading(Reading):
    """A `Reading` of a member, with what is left to spend."""

    budget: Budget = field(default_factory=lambda: Budget(0, 0, 0))


class _Window:
    """Stored bytes of a member, fetched through the file around it and kept there: one snapshot for both."""

    def __init__(self, outer: Source, offset: int, size: int) -> None:
        self.outer, self.offset, self.size = outer, offset, size
        self.distant, self.sequential = outer.distant, outer.sequential

    def into(self, offset: int, view: memoryview, *, keep: bool = False) -> int:
        """Fill `view` from `offset`."""
        count = max(0, min(len(view), self.size - offset))
        self.outer.readinto(self.offset + offset, view[:count], keep=keep)
        return count

    def close(self) -> None:
        """The outer file is not ours."""


class Unpacked:
    """Bytes that have to be unpacked, as far as somebody reads. Going back begins anew, and costs work again.

    Args:
        size: Bytes in all.
        pieces: Begins to unpack; its pieces are in order and as short as one likes.
        budget: Pays for what is kept and what is unpacked.
    """

    sequential: Final = True

    def __init__(self, size: int, pieces: Callable[[], Iterator[bytes | memoryview]], budget: Budget) -> None:
        self.size, self._begin, self.budget = size, pieces, budget
        self.kept = 0
        self._position = 0
        self._rest: memoryview = memoryview(b"")
        self._pieces: Iterator[bytes | memoryview] = iter(())
        self._started = False

    def into(self, offset: int, view: memoryview, *, keep: bool = False) -> int:
        """Fill `view` from `offset`.

        Raises:
            LimitError: it takes more memory or more unpacking than is granted.
            MalformedError: the member does not unpack to what it promises.
        """
        if len(view) > self.budget.memory:
            raise LimitError(f"unpacks to {self.size} bytes, and {self.budget.memory} more may be kept").under("SL208")
        self.budget.memory -= len(view)
        self.kept += len(view)
        if offset < self._position or not self._started:
            self._pieces, self._rest, self._position, self._started = self._begin(), memoryview(b""), 0, True
        done = 0
        while done < len(view):
            if not self._rest and not self._next():
                break
            skipped = min(offset - self._position, len(self._rest)) if self._position < offset else 0
            taken = min(len(self._rest) - skipped, len(view) - done)
            view[done : done + taken] = self._rest[skipped : skipped + taken]
            done += taken
            self._rest = self._rest[skipped + taken :]
            self._position += skipped + taken
        return done

    def _next(self) -> bool:
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self.budget.spend(len(piece), self.size)
        self._rest = memoryview(piece)
        return True

    def check(self) -> None:
        """When all of it was unpacked: raise MalformedError unless it ends there and has the recorded CRC."""
        if self._position == self.size and not self._rest:
            next(self._pieces, None)

    def close(self) -> None:
        """Nothing was opened."""


def inner_reading(source: Source, reading: Reading) -> InnerReading:
    """How to read what lies in `source`: one level deeper, from the same budget."""
    budget = reading.budget if isinstance(reading, InnerReading) else Budget.of(source.size, reading.limits)
    shared = {name: getattr(reading, name) for name in Reading.__slots__}
    return InnerReading(**{**shared, "depth": reading.depth + 1, "budget": budget})


def too_deep(reading: Reading, contents: Contents) -> bool:
    """Whether what lies in a container is not looked at, because too many lie around it; says so in `contents`."""
    if reading.depth < reading.limits.nesting:
        return False
    message = f"containers are nested deeper than {reading.limits.nesting} levels; what lies here was not looked at"
    contents.findings.append(finding("SL217", message))
    contents.error = contents.error or message
    return True


class Members:
    """Reads the members of one container, each as a file of its own, and gathers what is found.

    Args:
        reading: From `inner_reading`.
        contents: Takes parts and findings, their members qualified. `error` is set when a member that may be a model could
            not be read or is in no format that is known.
    """

    def __init__(self, reading: InnerReading, contents: Contents) -> None:
        self.reading, self.contents = reading, contents
        self._unknown: list[str] = []

    def granted(self) -> bool:
        """Whether one more member may be looked at."""
        self.reading.budget.members -= 1
        if self.reading.budget.members >= 0:
            return True
        message = "more members than are granted to a file of this size; the rest was not looked at"
        self.contents.findings.append(finding("SL208", message))
        self.contents.error = self.contents.error or message
        return False

    def read(self, name: str, source: Source, seen: Callable[[Contents], None] | None = None) -> Contents | None:
        """Read one member; what was found, or None when no reader claims it.

        Args:
            name: The member's.
            source: Its bytes.
            seen: Called with what was found, before it becomes the container's.

        Raises:
            SafeloadError: it could not be unpacked or read.
        """
        from safeload import formats  # it lists the archives' readers, which come here

        found = formats.read(source, self.reading)
        if found is not None:
            if seen is not None:
                seen(found)
            _take(name, found, self.contents)
            return found
        if plainly_no_model(source) is None:
            rule, what, _ = diagnose(source)
            if rule == "SL222":
                self.contents.findings.append(replace(finding(rule, what), member=name))
            self.contents.error = self.contents.error or f"member '{escape(name)}' is in no format that is read: {what}"
        self._unknown.append(name)
        return None

    def failed(self, name: str, error: SafeloadError) -> None:
        """Note a member that could not be looked at."""
        malformed = error if isinstance(error, MalformedError) else MalformedError(error.message).under(error.rule or "SL201")
        self.contents.findings.append(as_finding(malformed, name))
        self.contents.error = self.contents.error or f"member '{escape(name)}': {error.message}"

    def done(self) -> None:
        """Name the members that no reader claims."""
        if self._unknown:
            names = self._unknown
            shown = ", ".join(f"'{escape(name, 80)}'" for name in names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
            self.contents.findings.append(finding("SL215", f"{len(names)} members that no reader claims: {shown}"))


def read_members(source: Source, archive: Archive, reading: Reading, contents: Contents, seen: Seen | None = None) -> None:
    """Read every member of a zip or tar archive as a file of its own, and gather what is found in `contents`.

    Args:
        source: The archive.
        archive: Its structure; members with a `problem` are not touched, the structure's findings speak for them.
        reading: As the archive was to be read.
        contents: As for `Members`.
        seen: Called with each member that a reader claimed, and what was found in it.
    """
    if too_deep(reading, contents):
        return
    members = Members(inner_reading(source, reading), contents)
    for member in archive.members:
        if member.is_dir and not member.region.nbytes:
            continue
        if member.problem is not None and not oddly_packed(member):
            continue
        if not members.granted():
            break
        _read_member(source, member, members, seen)
    members.done()


def oddly_packed(member: Member) -> bool:
    """Whether all that is wrong with a member is its method, and that one can be unpacked."""
    return member.method in METHODS and (member.problem or "").startswith("compression method")


def _read_oddly_packed(source: Source, member: Member, members: Members) -> None:
    """Look into a member whose method refuses the archive anyway; one that does not unpack says nothing more."""
    packed = Source(_Window(source, member.region.offset, member.region.packed or 0), source.name)
    nbytes = member.region.nbytes
    unpacked = Unpacked(nbytes, lambda: unpack_member(member, packed), members.reading.budget)
    with suppress(SafeloadError, MemoryError):
        members.read(member.name, Source(unpacked, f"{source.name}!{escape(member.name)}"))


def _read_member(source: Source, member: Member, members: Members, seen: Seen | None) -> None:
    if member.problem is not None:
        _read_oddly_packed(source, member, members)
        return
    reading = members.reading
    unpacked: Unpacked | None = None
    if member.region.packed is not None:
        unpacked = Unpacked(member.region.nbytes, lambda: iter_member(source, member, reading.limits), reading.budget)
    try:
        inner = _open(source, member, f"{source.name}!{escape(member.name)}", unpacked)
        found = members.read(member.name, inner, (lambda found: seen(member, found)) if seen is not None else None)
        if unpacked is not None:
            if found is not None:
                unpacked.check()
            if found is None or not found.parts:
                reading.budget.memory += unpacked.kept  # nothing of it is kept as evidence
        elif found is not None and member.region.nbytes <= _SMALL:  # what was read as a whole anyway
            check_crc(source, member, member.region.crc_of(inner.view(0, inner.size)))
    except MemoryError:
        members.failed(member.name, LimitError(f"{member.region.nbytes} bytes do not fit into memory").under("SL208"))
    except SafeloadError as error:
        members.failed(member.name, error)


def _open(source: Source, member: Member, name: str, unpacked: Unpacked | None) -> Source:
    region = member.region
    if unpacked is not None:
        return Source(unpacked, name)
    if region.nbytes <= _SMALL:
        return Source.open(source.view(region.offset, region.nbytes, "a member"), name=name)
    return Source(_Window(source, region.offset, region.nbytes), name)


def _take(name: str, found: Contents, contents: Contents) -> None:
    """Move what was found in a member to the archive around it."""
    for part in found.parts:
        part.member = name if part.member is None else qualified(name, part.member)
        part.main = False
        contents.parts.append(part)
    contents.findings += (
        replace(item, member=name if item.member is None else qualified(name, item.member)) for item in found.findings
    )
    if found.error is not None:
        contents.error = contents.error or f"member '{escape(name)}': {found.error}"

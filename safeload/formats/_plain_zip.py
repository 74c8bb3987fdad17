"""A ZIP archive in which nothing is out of the ordinary, read in one quick pass.

`torch.save` and most other writers make nothing else: stored members behind one another, local headers that repeat the directory,
printable names. For such an archive this pass gives the members that `zip_container` would give, and no finding. At the first thing that is
not so plain that no reader could see it in another way, it gives up, and the thorough reader begins from the start: what it says is
never decided here.

One Python source, compiled like the pickle machine (docs/decisions/0001), with the C types of `_plain_zip.pxd`.
"""

from safeload.formats.container import Member
from safeload.program import Region

NEAR = 4096  # bytes: headers at most this far apart are fetched together
WINDOW = 1_048_576
SLACK = 256  # bytes from the start of a header that are fetched with it: mostly all of it
LARGEST = 4294967295  # a literal of this size would be a Python object in the compiled build
DEEPEST = 4294967295 * 1024

_new = tuple.__new__


def _u16(data, p):
    return data[p] | (data[p + 1] << 8)


def _u32(data, p):
    low = data[p] | (data[p + 1] << 8) | (data[p + 2] << 16)
    high = data[p + 3]
    return low + high * 16777216


def _ordinary(data, p, end):
    """Whether a name is printable ASCII without backslashes and colons, in components that are not empty, "." or ".."."""
    first = p
    while p < end:
        c = data[p]
        if c < 32 or c > 126 or c == 58 or c == 92:
            return False
        if c == 47:
            if not _component(data, first, p):
                return False
            first = p + 1
        p += 1
    return _component(data, first, end)


def _component(data, first, end):
    count = end - first
    if count < 1:
        return False
    return not (data[first] == 46 and (count == 1 or (count == 2 and data[first + 1] == 46)))


def _padding(data, p, count):
    """Whether extra data is none, or one field of torch's alignment, full of "Z"."""
    if count == 0:
        return True
    if count < 4 or data[p] != 70 or data[p + 1] != 66 or _u16(data, p + 2) != count - 4:
        return False
    for i in range(4, count):
        if data[p + i] != 90:
            return False
    return True


def _equal(left, p, right, q, count):
    for i in range(count):
        if left[p + i] != right[q + i]:
            return False
    return True


def _lower(data, p, end):
    """Whether there is no capital letter from `p` to `end`."""
    while p < end:
        if data[p] >= 65 and data[p] <= 90:
            return False
        p += 1
    return True


def plain_storages(ids, elements, records):
    """Find the bytes of each storage that a stream names.

    Args:
        ids: (index of a class, key, location, elements, offset) for each.
        elements: By index of a class: (its name, element type, bits, whether the class says the type).
        records: The archive's members, by name; a storage's is "data/" and its key.

    Returns:
        Their regions; None where an id is not plain, a class unknown, a record missing or of another size, or where two have the same key.
    """
    regions = []
    keys = set()
    for known in ids:
        if known is None:
            return None
        index, key, _, numel, _ = known
        element = elements.get(index)
        member = records.get("data/" + key)
        if element is None or member is None:
            return None
        region = member[1]
        if region[1] != numel * element[2] // 8:
            return None
        keys.add(key)
        regions.append(region)
    return regions if len(keys) == len(regions) else None


class Plain:
    """One pass over an archive.

    Args:
        directory: The bytes of the central directory.
        stop: Where it begins in the file: members end there.
        fetch: Gives the file's bytes from one offset to another, as a memoryview.
        outer: What goes before the names of members, for messages.
        most: Members.
    """

    def __init__(self, directory, stop, fetch, outer, most):
        self.directory = directory
        self.text = bytes(directory)
        self.stop = stop
        self.fetch = fetch
        self.outer = outer
        self.most = most
        self.first = 0
        self.behind = 0
        self.bytes = directory

    def window(self, start, end, p):
        """Have the file's bytes from `start` to `end`, and headers near behind them; `p` is the next entry of the directory."""
        data = self.directory
        far = max(end, start + SLACK)
        count = len(data)
        while p + 46 <= count and far - start < WINDOW:
            offset = _u32(data, p + 42)
            if offset < start or offset - far > NEAR:
                break
            if offset + SLACK > far:
                far = offset + SLACK
            p += 46 + _u16(data, p + 28) + _u16(data, p + 30) + _u16(data, p + 32)
        if far > self.stop:
            far = self.stop
        self.bytes = self.fetch(start, far)
        self.first = start
        self.behind = far

    def read(self):
        """Return the members in the order of the directory, and the set of their names in lower case; None where it gave up."""
        data = self.directory
        text = self.text
        outer = self.outer
        members = []
        keys = set()
        n = len(data)
        p = 0
        position = 0
        count = 0
        while p < n:
            if p + 46 > n or count >= self.most:
                return None
            if data[p] != 80 or data[p + 1] != 75 or data[p + 2] != 1 or data[p + 3] != 2:
                return None
            flags = _u16(data, p + 8)
            crc = _u32(data, p + 16)
            size = _u32(data, p + 24)
            length = _u16(data, p + 28)
            offset = _u32(data, p + 42)
            attributes = _u32(data, p + 38)
            if (
                _u16(data, p + 6) > 45 or (flags & 63479) != 0 or _u16(data, p + 10) != 0 or _u32(data, p + 20) != size
                or _u32(data, p + 30) != 0 or _u16(data, p + 34) != 0 or size == LARGEST or offset == LARGEST
                or (attributes & 16) != 0 or (attributes >> 28 != 0 and attributes >> 28 != 8) or length == 0
            ):
                return None
            name = p + 46
            p = name + length
            if p > n or not _ordinary(data, name, p) or offset != position:
                return None
            # ---- the local header
            if offset + 30 + length > self.stop:
                return None
            if offset < self.first or offset + 30 + length > self.behind:
                self.window(offset, offset + 30 + length, p)
            local = self.bytes
            at = offset - self.first
            extra = _u16(local, at + 28)
            if (
                local[at] != 80 or local[at + 1] != 75 or local[at + 2] != 3 or local[at + 3] != 4
                or _u16(local, at + 6) != flags or _u16(local, at + 8) != 0 or _u16(local, at + 26) != length
                or not _equal(local, at + 30, data, name, length)
            ):
                return None
            here = _u32(local, at + 14)
            packed = _u32(local, at + 18)
            unpacked = _u32(local, at + 22)
            pending = flags & 8 and here == 0 and packed == 0 and unpacked == 0
            if not pending and (here != crc or packed != size or unpacked != size):
                return None
            first = offset + 30 + length + extra
            if first + size > self.stop:
                return None
            if first > self.behind:
                self.window(offset, first, p)
                local = self.bytes
                at = 0
            if not _padding(local, at + 30 + length, extra) or (crc == 0 and size != 0):
                return None
            position = first + size
            # ---- the data descriptor
            if flags & 8:
                if position + 16 > self.stop:
                    return None
                if position < self.first or position + 16 > self.behind:
                    self.window(position, position + 16, p)
                local = self.bytes
                at = position - self.first
                if (
                    local[at] != 80 or local[at + 1] != 75 or local[at + 2] != 7 or local[at + 3] != 8
                    or _u32(local, at + 4) != crc or _u32(local, at + 8) != size or _u32(local, at + 12) != size
                ):
                    return None
                position += 16
            called = text[name:p].decode("ascii")
            lower = _lower(data, name, p)
            region = _new(Region, (first, size, None, crc, outer + called if outer else called))
            members.append(_new(Member, (called, region, offset, 0, flags, crc, False, None)))
            keys.add(called if lower else called.lower())
            count += 1
        if position != self.stop or len(keys) != count or position > DEEPEST:
            return None
        return members

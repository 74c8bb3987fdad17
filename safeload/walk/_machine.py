"""The pickle machine: what each of the 68 opcodes does, for the symbolic walk and for the build.

One Python source. It runs as it stands, and Cython compiles it, with the C types of `_machine.pxd`, to `_machine_c`. Both
must give the same answer for every byte string: decision, error and offset. So every length goes through the unsigned
helpers `_u16`, `_u32`, `_u64`; indices are bounds-checked in both; nothing relies on an integer wrapping or not.

The walk makes no values. Its stack, memo and arena hold 64-bit integers: a *slot* is `kind | payload << 6` (see
`walk.kinds`; the literals below are those numbers). The payload of a constant is the offset of its opcode, from which it can
be read again; of a container or tuple, its record in the arena; of a global, its index. The build makes values, with the
same operand readers, and asks a model for everything that is not plain data. It never meets a stream that was not walked.

Offsets count bytes from the start of the data that was passed, of which the stream is a part.
"""

import array
import mmap
import re
import struct
from collections import OrderedDict

from safeload.walk.kinds import NAMES
from safeload.walk.written_ids import written_id

MAX_NAME = 4096  # bytes of a module or attribute name; longer ones do not exist
KEPT_LIST = 16  # items of a list that are kept as evidence
KEPT_DICT = 64  # pairs of a dict that are kept, for checking the state of a BUILD
MAX_TUPLE_DEPTH = 1_000  # deeper tuples are hashed, compared and shown by recursion in C
MAX_HASH_DEPTH = 200
MAX_HASH_SIZE = 1_000_000  # hashing a tuple visits every value that it stands for
LONG_KEY = 65_536  # characters or bytes of a key from which on it counts what comparing it costs
MAX_ODD_KEYS = 10_000  # keys whose hashes a file can choose: dicts of them take quadratic time
DENSE_MEMO = 65_536
MAX_DIGITS = 4_300  # CPython refuses longer decimal integers, because reading them takes quadratic time
SATURATED = 1 << 60
LAZY = 131_072  # integers
HUGE = 262_144  # integers
CALLS = 64  # calls whose answers are remembered, by a number that stands for global and arguments
RECORD = 6  # integers in an arena record
WORD = 4294967296  # a literal of this size would be a Python object in the compiled build

_INT_TEXT = re.compile(rb"[+-]?[0-9]+\Z")
_LONG_TEXT = re.compile(rb"[+-]?[0-9]+L?\Z")
_FLOAT_TEXT = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z|[+-]?(?:inf|nan)\Z")
_C_INTEGER = re.compile(
    rb"\s*[+-]?(?:0[xX]_?[0-9a-fA-F](?:_?[0-9a-fA-F])*|0[oO]_?[0-7](?:_?[0-7])*|0[bB]_?[01](?:_?[01])*"
    rb"|[1-9](?:_?[0-9])*|0(?:_?0)*)[lL]?\Z"
)
_INDEX_TEXT = re.compile(rb"[0-9]{1,10}\Z")
_STRING_SIMPLE = re.compile(rb"[\x20-\x7e]*\Z")


class Malformed(Exception):
    """The stream breaks here: `args` are the message and the offset, and True where only the end of the data broke it."""


def _zeros(count):
    """That many 64-bit integers. Of a large piece, pages that nobody writes to are never touched, and cost nothing."""
    if count < LAZY:
        return memoryview(bytearray(8 * count)).cast("q")
    try:
        made = mmap.mmap(-1, 8 * count, _PRIVATE) if _PRIVATE >= 0 else mmap.mmap(-1, 8 * count)
    except OSError as error:
        raise MemoryError(f"{8 * count} bytes for the stack, the memo or the records of a stream") from error
    if count >= HUGE and _HUGE_PAGES >= 0:
        try:
            made.madvise(_HUGE_PAGES)  # a page fault for each 4 KiB was half of the time of a large walk
        except OSError:
            pass  # the system gives none
    return memoryview(made).cast("q")


def _grown(buffer, used):
    """The same 64-bit integers with three times as many zeros behind them; of the old ones the first `used` count."""
    grown = _zeros(4 * len(buffer))
    grown[:used] = memoryview(buffer)[:used]  # one copy: with a large stream it is memory that takes the time
    return grown


def _u16(data, p):
    return data[p] | (data[p + 1] << 8)


def _u32(data, p):
    low = data[p] | (data[p + 1] << 8) | (data[p + 2] << 16)
    high = data[p + 3]
    return low + high * 16777216


def _i32(data, p):
    value = _u32(data, p)
    if value > 2147483647:
        value = value - WORD
    return value


def _u64(data, p):
    """Read 8 bytes as an unsigned length; anything from 2**62 on is as long as 2**62: longer than any file."""
    if data[p + 7] >= 64:
        return 4611686018427387904
    low = _u32(data, p)
    high = _u32(data, p + 4)
    return low + high * WORD


def _double(data, raw, p):
    """Read a big-endian double.

    In the compiled build without an object in between: a normal number is its 53 bits times a power of two, which is exact.
    Zeros, numbers near the subnormal ones (which a process may have told its processor to flush), infinities and NaNs
    (whose payload would be lost) go the slow way.
    """
    high = data[p + 3] | (data[p + 2] << 8) | (data[p + 1] << 16)
    exponent = (data[p] & 127) << 4 | data[p + 1] >> 4
    if exponent < 128 or exponent == 2047:
        return _DOUBLE.unpack_from(raw, p)[0]
    low = data[p + 4]  # first into 64 bits: a byte times 2**24 does not fit a C int
    low = low * 16777216 + (data[p + 7] | (data[p + 6] << 8) | (data[p + 5] << 16))
    low = low + ((high & 0xFFFFF) | 0x100000) * WORD
    value = low * _POWERS[exponent]
    return -value if data[p] >= 128 else value


def _line(data, p, n):
    """Offset of the newline at or after `p`, or -1."""
    while p < n:
        if data[p] == 10:
            return p
        p += 1
    return -1


def _ascii(data, p, end):
    """Whether all bytes from `p` to `end` are below 0x80."""
    while p < end:
        if data[p] >= 128:
            return False
        p += 1
    return True


def parse_int(text, offset):
    """INT: 00 and 01 are booleans, anything else an int as C reads it (base prefixes, underscores)."""
    if text == b"00":
        return False
    if text == b"01":
        return True
    return _integer(text, offset, False)


def parse_long(text, offset):
    """LONG: like INT, with an L behind that is cut off."""
    return _integer(text, offset, True)


def _integer(text, offset, is_long):
    body = text[:-1] if is_long and text[-1:] == b"L" else text
    if not is_long and b"\0" in body:
        body = body[: body.index(b"\0")]  # C's strtol stops there
    if len(body) > MAX_DIGITS:
        raise Malformed(f"an integer of {len(body)} digits; {MAX_DIGITS} are read", offset)
    if _C_INTEGER.match(body) is None or body[-1:] in (b"l", b"L"):
        if _INT_TEXT.match(body) is None:
            raise Malformed("an integer in a form that does not exist", offset)
        if len(body.lstrip(b"+-")) > 1 and body.lstrip(b"+-").strip(b"0") and body.lstrip(b"+-")[:1] == b"0":
            raise Malformed("a decimal integer with leading zeros", offset)
    return int(body, 0)


def parse_float(text, offset):
    """FLOAT: as PyOS_string_to_double reads it."""
    if _FLOAT_TEXT.match(text.lower()) is None or len(text) > MAX_NAME:
        raise Malformed("a float in a form that does not exist", offset)
    return float(text)


def parse_string(text, offset):
    """STRING: the bytes between the quotes, escapes undone."""
    body = text.rstrip(b" \t\r\v\f")
    if len(body) < 2 or body[:1] != body[-1:] or body[:1] not in (b"'", b'"'):
        raise Malformed("a quoted string without its quotes", offset)
    return _unescape(body[1:-1], offset)


_SIMPLE_ESCAPES = {
    0x5C: b"\\", 0x27: b"'", 0x22: b'"', 0x6E: b"\n", 0x72: b"\r", 0x74: b"\t", 0x62: b"\b", 0x66: b"\f",
    0x61: b"\a", 0x76: b"\v", 0x0A: b"",
}  # fmt: skip
_ORDINARY_ESCAPES = re.compile(rb"(?:[^\\]+|\\(?:x[0-9a-fA-F]{2}|[0-3][0-7]{0,2}|[4-7][0-7]?(?![0-7])|[\\'\"abfnrtv]))*+\Z")
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([0-7]{1,3})|(.)|$)", re.DOTALL)


def _unescape(body, offset):
    """Undo the escapes of a bytes literal, as PyBytes_DecodeEscape does."""
    if b"\\" not in body:
        return body
    if _ORDINARY_ESCAPES.match(body) is not None:  # what Python 2 writes; the codec is far faster than a match for each escape
        return body.decode("unicode-escape").encode("latin-1")

    def one(match):
        hexed, octal, char = match.groups()
        if hexed is not None:
            return bytes([int(hexed, 16)])
        if octal is not None:
            return bytes([int(octal, 8) & 255])
        if char is None or char == b"x":
            raise Malformed("a string that ends inside an escape", offset)
        return _SIMPLE_ESCAPES.get(char[0], b"\\" + char)

    return _ESCAPE.sub(one, body)


def parse_unicode(text, offset):
    """UNICODE: raw-unicode-escape."""
    try:
        return text.decode("raw-unicode-escape")
    except UnicodeDecodeError:
        raise Malformed("a UNICODE operand with a broken escape", offset) from None


def parse_index(text, offset):
    """GET and PUT: a memo index in decimal; -1 when its form is odd (signs, blanks, zeros in front, too long)."""
    if _INDEX_TEXT.match(text) is None or (len(text) > 1 and text[:1] == b"0"):
        return -1
    return int(text)


def text_of(data, raw, offset, encoding):
    """The value of the string or bytes opcode at `offset`: str or bytes. The walk has checked its lengths."""
    op = data[offset]
    if op == 0x58:
        start, count = offset + 5, _u32(data, offset + 1)
    elif op == 0x8C or op == 0x55 or op == 0x43:
        start, count = offset + 2, data[offset + 1]
    elif op == 0x8D or op == 0x8E or op == 0x96:
        start, count = offset + 9, _u64(data, offset + 1)
    elif op == 0x54 or op == 0x42:
        start, count = offset + 5, _u32(data, offset + 1)
    else:
        end = _line(data, offset + 1, len(data))
        line = bytes(raw[offset + 1 : end])
        if op == 0x56:
            return parse_unicode(line, offset)
        return _decoded(parse_string(line, offset), encoding, offset)
    value = bytes(raw[start : start + count])
    if op == 0x58 or op == 0x8C or op == 0x8D:
        return _utf8(value, offset)
    if op == 0x55 or op == 0x54:
        return _decoded(value, encoding, offset)
    return value


def _utf8(raw, offset):
    try:
        return str(raw, "utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise Malformed("text that is not UTF-8", offset) from None


def _slice_text(text, start, end, at):
    """Decode a part of a bytes object; in the compiled build without a copy in between."""
    try:
        return text[start:end].decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise Malformed("text that is not UTF-8", at) from None


def _decoded(raw, encoding, offset):
    """Python 2 strings: bytes, or decoded as the caller asked."""
    if encoding == "bytes":
        return raw
    try:
        return raw.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        raise Malformed(f"a Python 2 string that is not {encoding}", offset) from None


class Walker:
    """The symbolic pass over one stream.

    Args:
        data: The bytes, as a read-only memoryview of format "B".
        start: Where the stream begins.
        resolve: Called once per distinct global: (module, attribute) → (kind, modelled or None).
        encoding: What Python 2 strings are decoded with, or "bytes".
        limits: `safeload.source.Limits`.
        persistent: What persistent ids mean here: 0 nothing, 1 as in torch streams, 2 as in torch's old tar files.
        mapping: Called with (module, attribute) of protocols 0 to 2: the name that Python 3 gives it.
    """

    def __init__(self, data, start, resolve, mapping, encoding, limits, persistent):
        self.data = data  # for single bytes
        self.raw = data  # for slices: in the compiled build a slice of the typed view costs more
        self.start = start
        self.size = len(data)
        self.resolve = resolve
        self.mapping = mapping
        self.encoding = encoding
        self.persistent = persistent
        self.max_opcodes = limits.opcodes
        self.max_memo = limits.memo
        self.max_calls = limits.calls
        self.max_expansion = min(limits.expansion, SATURATED)
        # Small at first: a file may hold a hundred thousand streams, and what is known of each is kept.
        self.stack = _zeros(256)
        self.marks = _zeros(64)
        self.memo = _zeros(256)
        self.arena = _zeros(RECORD * 64)
        self.items = _zeros(256)
        self.sparse = {}
        self.sp = 0
        self.mp = 0
        self.memo_len = 0
        self.records = 1
        self.kept = 0
        self.odd_keys = 0
        self.globals = []  # (module, attribute, offset, modelled or None)
        self.by_name = {}
        self.events = []  # (opcode name, callee slot, argument slot, offset)
        self.events_of = {}
        self.notes = []  # (rule, message, offset)
        self.noted = {}
        self.opcodes = 0
        self.protocol = 0
        self.end = -1
        self.checked = False
        self.pids = _zeros(32)  # pairs: slot of a storage's persistent id, offset
        self.pid_count = 0
        self.rebuild = 0  # the slot of the global that dense tensors are made by, once the stream has named it
        self.rebuilds = _zeros(64)  # fours: slot of its arguments, offset of the call, see `add_rebuild` for the other two
        self.rebuild_count = 0
        self.pushed_at = -1  # where it was last put on the stack from the memo, and what was there then
        self.pushed_sp = 0
        self.pushed_mp = 0
        self.pushed_effects = 0
        self.pushed_records = 0
        self.effects = 0  # how often something was changed or called
        self.last_global = -1  # where a global was named that was not named before
        self.dense_puts = False  # MEMOIZE counts entries: nothing can be left out
        self.needed_at = -1  # the last offset of a constant or a global that came from the memo
        self.needed_record = 0  # likewise the last record
        self.shared = False  # a storage, or arguments that hold one, came from the memo: it stands in several places
        self.root = 0
        self.skip = None  # asked where the raw bytes behind an array's description end, see walk.raw_arrays
        self.gaps = {}  # offset of raw bytes between two opcodes: the offset behind them
        self.known_calls = _zeros(CALLS)  # global and kinds of arguments of a call that fitted, see `call`
        self.known_results = _zeros(CALLS)  # the kind of its result, and one more
        self.storage_word = 0  # the slot of the text "storage" that a persistent id began with
        self.fetches_only = True  # whether getattr, where it is named, does nothing but fetch nested names
        self.type_states = {}  # record of a dtype's arguments: the slot of its state, or -1 when it was given twice

    # ---- evidence

    def note(self, rule, message, offset):
        """Keep a finding, each text once, and not without end."""
        key = (rule, message)
        if key not in self.noted:
            if len(self.notes) >= 1000:
                return
            self.noted[key] = True
            self.notes.append((rule, message, offset))

    def event(self, name, callee, args, offset):
        """Keep a call on something that is not modelled; at most 20 per global. Returns the slot of its result."""
        if args & 63 == 41:
            self.fetches_only = False
        root = callee >> 6
        if callee & 63 == 16:
            root = self.events[root][4] if root >= 0 and root < len(self.events) else -1
        seen = self.events_of.get(root, 0)
        self.events_of[root] = seen + 1
        if seen >= 20:
            return 16 | (self.events_of[("last", root)] << 6)
        self.events_of[("last", root)] = len(self.events)
        self.events.append((name, callee, args, offset, root))
        return 16 | ((len(self.events) - 1) << 6)

    def children(self, slot):
        """The slots that are kept of a tuple, list, dict or set, and how many there are in all."""
        base = (slot >> 6) * RECORD
        if base == 0:
            return [], 0
        start = self.arena[base]
        count = self.arena[base + 1]
        total = count if slot & 63 == 9 else self.arena[base + 2]
        return [self.items[start + i] for i in range(min(count, 2 * KEPT_DICT))], total

    def constant(self, slot):
        """The value of a constant's slot: a number, text, bytes, a boolean or None."""
        kind = slot & 63
        at = slot >> 6
        if kind == 1:
            return None
        if kind == 6 or kind == 7 or kind == 8:
            return text_of(self.data, self.raw, at, self.encoding)
        op = self.data[at]
        if kind == 2:
            return op == 0x88 or (op == 0x49 and self.data[at + 2] == 0x31)
        if op == 0x4B:
            return self.data[at + 1]
        if op == 0x4A:
            return _i32(self.data, at + 1)
        if op == 0x4D:
            return _u16(self.data, at + 1)
        if op == 0x47:
            return _DOUBLE.unpack_from(self.raw, at + 1)[0]
        if op == 0x8A:
            return int.from_bytes(self.raw[at + 2 : at + 2 + self.data[at + 1]], "little", signed=True)
        if op == 0x8B:
            return int.from_bytes(self.raw[at + 5 : at + 5 + min(_u32(self.data, at + 1), 256)], "little", signed=True)
        line = bytes(self.raw[at + 1 : _line(self.data, at + 1, self.size)])
        return parse_float(line, at) if op == 0x46 else parse_long(line, at) if op == 0x4C else parse_int(line, at)

    # ---- storages and dense tensors, as nearly all streams write them

    def storage_ids(self):
        """(slot of the persistent id, offset) of every storage that the stream names, in its order."""
        return [(self.pids[2 * number], self.pids[2 * number + 1]) for number in range(self.pid_count)]

    def add_pid(self, pid, offset):
        """List a storage; returns its slot, which says which it is."""
        if 2 * self.pid_count + 2 > len(self.pids):
            self.pids = _grown(self.pids, 2 * self.pid_count)
        self.pids[2 * self.pid_count] = pid
        self.pids[2 * self.pid_count + 1] = offset
        self.pid_count += 1
        return 22 | (self.pid_count << 6)

    def add_rebuild(self, args, offset, sp):
        """List a call that makes a dense tensor, with the offset that it begins at and the first record of its arguments.

        It begins where the global came from the memo, if all since then did nothing but make its arguments; else it has no beginning.
        """
        at = 4 * self.rebuild_count
        if at + 4 > len(self.rebuilds):
            self.rebuilds = _grown(self.rebuilds, at)
        same = self.pushed_sp == sp and self.pushed_mp == self.mp and self.pushed_effects == self.effects
        self.rebuilds[at] = args
        self.rebuilds[at + 1] = offset
        self.rebuilds[at + 2] = self.pushed_at if same else -1
        self.rebuilds[at + 3] = self.pushed_records
        self.rebuild_count += 1
        self.pushed_at = -1
        self.pushed_sp = -1

    def pushed(self, at, sp):
        """The global of dense tensors comes from the memo."""
        self.pushed_at = at
        self.pushed_sp = sp
        self.pushed_mp = self.mp
        self.pushed_effects = self.effects
        self.pushed_records = self.records

    def fresh(self, slot):
        """Whether a slot shows that it was made since the global of dense tensors came from the memo."""
        kind = slot & 63
        if kind >= 2 and kind <= 8:
            return slot >> 6 >= self.pushed_at
        return ((kind >= 9 and kind <= 13) or (kind >= 18 and kind <= 21)) and slot >> 6 >= self.pushed_records

    def needed(self, slot, p):
        """A slot comes from the memo: what put it there cannot be left out of a build."""
        kind = slot & 63
        if kind >= 2 and kind <= 8 and slot >> 6:
            if slot >> 6 > self.needed_at:
                self.needed_at = slot >> 6
        elif kind == 14 or kind == 32:
            if self.last_global > self.needed_at:
                self.needed_at = self.last_global
        elif ((kind >= 9 and kind <= 13) or (kind >= 18 and kind <= 21)) and slot >> 6:
            if slot >> 6 > self.needed_record:
                self.needed_record = slot >> 6
        elif kind != 23:  # a tensor is put into the memo behind its call
            self.needed_at = p

    def holds_storage(self, slot):
        """Whether a slot is a storage, or a tuple with one in it."""
        kind = slot & 63
        return kind == 22 or (kind == 9 and slot >> 6 != 0 and self.arena[(slot >> 6) * RECORD + 5] != 0)

    def small(self, slot):
        """The value of a small integer's slot; -1 for any other, and for negative ones."""
        if slot & 63 != 3:
            return -1
        at = slot >> 6
        op = self.data[at]
        if op == 0x4B:
            return self.data[at + 1]
        if op == 0x4D:
            return _u16(self.data, at + 1)
        if op == 0x4A:
            return max(-1, _i32(self.data, at + 1))
        return -1

    def plain_ids(self):
        """What each storage's id says: (index of its class among the globals, key, location, elements, offset).

        None in the place of an id that is not just ("storage", class, key, location, elements) with few elements.
        """
        found = []
        tags = {}
        whole = bytes(self.raw[self.start : self.end]) if self.pid_count and self.end > 0 else b""
        for number in range(self.pid_count):
            slot = self.pids[2 * number]
            offset = self.pids[2 * number + 1]
            plain = None
            if slot & 63 == 9 and slot >> 6:
                base = (slot >> 6) * RECORD
                start = self.arena[base]
                if self.arena[base + 1] == 5 and self.items[start + 1] & 63 == 32:
                    key = self.items[start + 2]
                    tag = self.items[start + 3]
                    numel = self.small(self.items[start + 4])
                    if key & 63 == 6 and tag & 63 == 6 and numel >= 0:
                        text = tags.get(tag)
                        if text is None:
                            text = tags[tag] = self.constant(tag)
                        plain = (self.items[start + 1] >> 6, self.key_of(whole, key >> 6), text, numel, offset)
            found.append(plain)
        return found

    def key_of(self, whole, at):
        """The text of a constant; in the compiled build without a copy in between where its opcode is the one that torch writes."""
        start = at + 5 - self.start
        if self.data[at] != 0x58 or start > len(whole):
            return text_of(self.data, self.raw, at, self.encoding)
        return _slice_text(whole, start, start + _u32(self.data, at + 1), at)

    def plain_tensors(self):
        """The dense tensors that are all of a storage that no other tensor is of, by what they have in common.

        Row-major, from the storage's first element, of as many elements as the storage's id says, with no hooks.

        Returns:
            Groups: (index of the storage's class among the globals, location, size) → (offsets, numbers of the storages, places in both
            lists of those that require a gradient, offsets of the persistent ids). An offset is the call's, or, where nothing that
            the stream does from there up to the call is needed but the tensor, that of the beginning. Then, by that offset: where
            the stream goes on. Nothing where some storage stands in several places.
        """
        found = {}
        ends = {}
        if self.shared:
            return found, ends
        used = _zeros(self.pid_count + 1)
        for number in range(self.rebuild_count):
            slot = self.rebuilds[4 * number]
            if slot >> 6:
                base = (slot >> 6) * RECORD
                if self.arena[base + 1] > 0 and self.items[self.arena[base]] & 63 == 22:
                    used[self.items[self.arena[base]] >> 6] += 1
        tags = {}
        calls, numbers, gradients, ids = [], [], [], []
        before = 0
        last_size = 0
        for number in range(self.rebuild_count):
            slot = self.rebuilds[4 * number]
            base = (slot >> 6) * RECORD
            if base == 0 or slot & 63 != 9 or self.arena[base + 1] != 6:
                continue
            start = self.arena[base]
            which = self.items[start] >> 6
            if self.items[start] & 63 != 22 or used[which] != 1 or self.small(self.items[start + 1]) != 0:
                continue
            size = self.items[start + 2]
            step = self.items[start + 3]
            grad = self.items[start + 4]
            hooks = self.items[start + 5]
            if size & 63 != 9 or step & 63 != 9 or size >> 6 == 0 or step >> 6 == 0 or grad & 63 != 2 or hooks & 63 != 18:
                continue
            if self.arena[(hooks >> 6) * RECORD + 2] != 0 or (self.data[grad >> 6] != 0x88 and self.data[grad >> 6] != 0x89):
                continue
            count = self.arena[(size >> 6) * RECORD + 1]
            first = self.arena[(size >> 6) * RECORD]
            last = self.arena[(step >> 6) * RECORD]
            if self.arena[(step >> 6) * RECORD + 1] != count or count > 8:
                continue
            expected = 1
            for i in range(count - 1, -1, -1):
                length = self.small(self.items[first + i])
                if length < 1 or self.small(self.items[last + i]) != expected or expected > 2147483647:
                    expected = -1
                    break
                expected *= length
            if expected < 0:
                continue
            slot = self.pids[2 * which - 2]
            base = (slot >> 6) * RECORD
            if slot & 63 != 9 or base == 0 or self.arena[base + 1] != 5:
                continue
            slot = self.arena[base]
            if self.small(self.items[slot + 4]) != expected or self.items[slot + 1] & 63 != 32 or self.items[slot + 3] & 63 != 6:
                continue
            same = before != 0 and self.items[before + 1] == self.items[slot + 1] and self.items[before + 3] == self.items[slot + 3]
            if not same or not self.same_tuple(size, last_size):
                tag = tags.get(self.items[slot + 3])
                if tag is None:
                    tag = tags[self.items[slot + 3]] = self.constant(self.items[slot + 3])
                key = (self.items[slot + 1] >> 6, tag, tuple([self.small(self.items[first + i]) for i in range(count)]))
                group = found.get(key)
                if group is None:
                    group = found[key] = ([], [], [], [])
                calls, numbers, gradients, ids = group
            before = slot
            last_size = size
            if self.data[grad >> 6] == 0x88:
                gradients.append(len(calls))
            at = self.rebuilds[4 * number + 1]
            start = self.rebuilds[4 * number + 2]
            if start > self.needed_at and self.rebuilds[4 * number + 3] > self.needed_record and not self.dense_puts and start >= 0:
                ends[start] = at + 1
                at = start
            calls.append(at)
            numbers.append(which - 1)
            ids.append(self.pids[2 * which - 1])
        return found, ends

    def same_tuple(self, left, right):
        """Whether two tuples of small integers hold the same."""
        if left == right:
            return True
        count = self.arena[(left >> 6) * RECORD + 1]
        if self.arena[(right >> 6) * RECORD + 1] != count:
            return False
        first = self.arena[(left >> 6) * RECORD]
        second = self.arena[(right >> 6) * RECORD]
        for i in range(count):
            if self.small(self.items[first + i]) != self.small(self.items[second + i]):
                return False
        return True

    # ---- operands; as methods, because in the compiled build handing over a memoryview costs more than reading four bytes

    def u32(self, p):
        low = self.data[p] | (self.data[p + 1] << 8) | (self.data[p + 2] << 16)
        high = self.data[p + 3]
        return low + high * 16777216

    def ascii(self, p, end):
        while p < end:
            if self.data[p] >= 128:
                return False
            p += 1
        return True

    # ---- storage for slots

    def grow_stack(self):
        self.stack = _grown(self.stack, len(self.stack))

    def push_mark(self, value):
        if self.mp >= len(self.marks):
            self.marks = _grown(self.marks, self.mp)
        self.marks[self.mp] = value
        self.mp += 1

    def put(self, index, slot, p):
        """PUT: set a memo entry. Indices are dense in every pickler's output; others are kept apart, and noted."""
        if self.pushed_at >= 0 and not self.fresh(slot):
            self.effects += 1
        if index >= DENSE_MEMO and index > p:
            self.note("SL124", "a memo index beyond what the stream could have filled", p)
            if index not in self.sparse:
                self.memo_len += 1
            self.sparse[index] = slot
            return
        if index > self.max_memo:
            raise Malformed(f"memo index {index}; at most {self.max_memo} are kept", p)
        if index >= len(self.memo):
            while index >= len(self.memo):
                self.memo = _grown(self.memo, len(self.memo))
        if self.memo[index] == 0:
            self.memo_len += 1
        elif self.memo[index] != slot:
            self.note("SL124", "a memo entry is written again with another value", p)
        self.memo[index] = slot

    def get(self, index, p):
        slot = 0
        if index >= 0 and index < len(self.memo):
            slot = self.memo[index]
        if slot == 0:
            slot = self.sparse.get(index, 0)
        if slot == 0:
            raise Malformed(f"memo entry {index} was never written", p)
        if slot & 63 == 6 and slot >> 6 <= self.needed_at:  # text that is known to be needed: nearly always
            return slot
        if self.holds_storage(slot):
            self.shared = True
        self.needed(slot, p)
        return slot

    def record(self):
        """Take an arena record; its six integers are zero."""
        if (self.records + 1) * RECORD > len(self.arena):
            self.arena = _grown(self.arena, self.records * RECORD)
        index = self.records
        self.records += 1
        return index

    def keep(self, first, count):
        """Copy `count` slots from the stack at `first` to the kept items; returns where they begin."""
        while self.kept + count > len(self.items):
            self.items = _grown(self.items, self.kept)
        start = self.kept
        for i in range(count):
            self.items[start + i] = self.stack[first + i]
        self.kept += count
        return start

    def weight(self, slot):
        """How many values a slot stands for."""
        kind = slot & 63
        if kind == 9:
            return self.arena[(slot >> 6) * RECORD + 3] if slot >> 6 else 1
        if (kind >= 10 and kind <= 13) or (kind >= 18 and kind <= 21):
            return self.arena[(slot >> 6) * RECORD + 3] + 1 if slot >> 6 else 1
        if kind == 41:
            self.fetches_only = False  # it becomes a part of the data
        if kind == 4:
            return 1 + (self.long_bytes(slot) >> 3)
        return 1

    def long_bytes(self, slot):
        """Bytes of a large integer, where there can be many: hashing and comparing it goes through all of them each time."""
        at = slot >> 6
        return _u32(self.data, at + 1) if self.data[at] == 0x8B else 0

    def make_tuple(self, first, count, p):
        """TUPLE*: of `count` slots from the stack at `first`."""
        if count == 0:
            return 9
        return self.tuple_of(self.keep(first, count), count, p)

    def tuple_of(self, start, count, p):
        """A tuple of kept items: a record of [items, count, depth, weight, hashable, whether a storage is in it]."""
        if count == 0:
            return 9
        index = self.record()
        base = index * RECORD
        depth = 0
        weight = 1
        unhashable = 0
        for i in range(count):
            slot = self.items[start + i]
            kind = slot & 63
            weight += self.weight(slot) if kind >= 9 or kind == 4 else 1
            if kind == 9 and slot >> 6:
                other = (slot >> 6) * RECORD
                if self.arena[other + 2] > depth:
                    depth = self.arena[other + 2]
                if self.arena[other + 4]:
                    unhashable = 1
                if self.arena[other + 5]:
                    self.arena[base + 5] = 1
            elif kind == 22:
                self.arena[base + 5] = 1
            elif kind >= 8 and self.unhashable(kind):
                unhashable = 1
        if weight > self.max_expansion:
            raise Malformed("shared tuples stand for more values than are allowed", p)
        if depth + 1 > MAX_TUPLE_DEPTH:
            raise Malformed(f"tuples nested deeper than {MAX_TUPLE_DEPTH}", p)
        self.arena[base] = start
        self.arena[base + 1] = count
        self.arena[base + 2] = depth + 1
        self.arena[base + 3] = weight
        self.arena[base + 4] = unhashable
        return 9 | (index << 6)

    def unhashable(self, kind):
        return kind == 8 or (kind >= 10 and kind <= 12) or (kind >= 18 and kind <= 21) or kind == 30

    def hashed(self, slot, p):
        """A value becomes a key or a member of a set: check that hashing it is possible and cheap."""
        kind = slot & 63
        if kind == 6 or kind == 3:
            return
        if self.unhashable(kind):
            raise Malformed("an unhashable value as a key", p)
        if kind == 9 and slot >> 6:
            base = (slot >> 6) * RECORD
            if self.arena[base + 4]:
                raise Malformed("an unhashable value as a key", p)
            if self.arena[base + 2] > MAX_HASH_DEPTH or self.arena[base + 3] > MAX_HASH_SIZE:
                raise Malformed("a key that stands for too many values to hash", p)
            if self.arena[base + 3] > 64:
                self.odd_keys += 1 + (self.arena[base + 3] >> 12)
        if kind == 13 and slot >> 6:  # compared, not hashed, member by member
            if self.arena[(slot >> 6) * RECORD + 3] > MAX_HASH_SIZE:
                raise Malformed("a key that stands for too many values to compare", p)
            self.odd_keys += self.arena[(slot >> 6) * RECORD + 3] >> 12
        if kind == 4:
            self.odd_keys += self.long_bytes(slot) >> 12
        if kind == 4 or kind == 13 or kind == 15 or kind == 16 or kind == 17 or kind == 31:
            self.odd_keys += 1
        if self.odd_keys > MAX_ODD_KEYS:
            raise Malformed(f"more than {MAX_ODD_KEYS} keys whose hashes the file chooses", p)

    def container(self, kind):
        """A new list, dict or set: a record of [kept items, how many, count, weight, 0, 0]."""
        return kind | (self.record() << 6)

    def filled(self, kind, args, p):
        """The container that a call gives. What it is made of stands for as many values in it, and is not kept again."""
        start = 0
        count = 0
        if args >> 6:
            start = self.arena[(args >> 6) * RECORD]
            count = self.arena[(args >> 6) * RECORD + 1]
        if kind == 9:
            if count == 0 or self.items[start] & 63 == 9:
                return self.items[start] if count else 9
            base = (self.items[start] >> 6) * RECORD
            if base == 0 or self.arena[base + 1] == self.arena[base + 2]:
                return self.tuple_of(self.arena[base], self.arena[base + 1], p)
            kind = 10  # of more items than are kept: what is in it is not known, so it is neither a key nor arguments
        made = self.container(kind)
        weight = 0
        held = 0
        for i in range(count):
            slot = self.items[start + i]
            if slot & 63 >= 9:
                base = (slot >> 6) * RECORD
                weight += self.weight(slot)
                if base != 0 and (slot & 63 == 9 or (slot & 63 >= 10 and slot & 63 <= 13) or (slot & 63 >= 18 and slot & 63 <= 21)):
                    if self.arena[base + 1] != 0 or self.arena[base + 2] != 0:
                        held = 1  # something is in it, and none of it is kept
        if weight > self.max_expansion:
            raise Malformed("shared containers stand for more values than are allowed", p)
        self.arena[(made >> 6) * RECORD + 2] = held
        self.arena[(made >> 6) * RECORD + 3] = weight
        return made

    def fill(self, target, first, count, is_pairs, p):
        """Put `count` slots from the stack at `first` into a container."""
        if target >> 6 == 0 or count == 0:
            return
        base = (target >> 6) * RECORD
        limit = 2 * KEPT_DICT if is_pairs else KEPT_LIST
        weight = self.arena[base + 3]
        for i in range(count):
            slot = self.stack[first + i]
            weight += self.weight(slot) if slot & 63 >= 9 else 1
        if weight > self.max_expansion:
            raise Malformed("shared containers stand for more values than are allowed", p)
        self.arena[base + 3] = weight
        held = self.arena[base + 1]
        if held == self.arena[base + 2] and held < limit:
            room = limit - held
            if room > count:
                room = count
            start = self.arena[base]
            if held and start + held != self.kept:  # something else was kept behind it: move it to the end
                while self.kept + held > len(self.items):
                    self.items = _grown(self.items, self.kept)
                for i in range(held):
                    self.items[self.kept + i] = self.items[start + i]
                start = self.kept
                self.kept += held
            fresh = self.keep(first, room)
            if not held:
                start = fresh
            self.arena[base] = start
            self.arena[base + 1] = held + room
        self.arena[base + 2] += count

    # ---- globals and calls

    def named(self, module, attribute, offset):
        """Push a global; the first time that a name is met, ask what it is. A stand-in of ours has None for its module."""
        key = (module, attribute)
        found = self.by_name.get(key)
        if found is None:
            if len(self.globals) >= self.max_calls:
                raise Malformed(f"more than {self.max_calls} different globals", offset)
            name, kind, modelled = self.resolve(module, attribute)
            index = len(self.globals)
            self.last_global = offset
            if name == "torch._utils._rebuild_tensor_v2" and modelled is not None and self.rebuild == 0:
                self.rebuild = kind | (index << 6)
            self.globals.append((module, attribute, offset, modelled, name))
            found = kind | (index << 6)
            self.by_name[key] = found
        return found

    def read_global(self, p, offset):
        """GLOBAL and INST: two lines. Returns (slot, offset behind)."""
        data = self.data
        middle = _line(data, p, min(self.size, p + MAX_NAME))
        end = _line(data, middle + 1, min(self.size, middle + 1 + MAX_NAME)) if middle >= 0 else -1
        if end < 0:
            raise Malformed("a global's name has no end", offset, self.size - p < MAX_NAME)
        try:
            module = str(self.raw[p:middle], "utf-8")
            attribute = str(self.raw[middle + 1 : end], "utf-8")
        except UnicodeDecodeError:
            raise Malformed("a global's name is not UTF-8", offset) from None
        if self.protocol < 3:
            module, attribute = self.mapping(module, attribute)
        return self.named(module, attribute, offset), end + 1

    def stack_global(self, module, attribute, offset):
        """STACK_GLOBAL: both operands must be constants of this stream."""
        if module & 63 != 6 or attribute & 63 != 6:
            self.note("SL107", "the name of a global is computed, not written", offset)
            return self.named(None, f"<computed at {offset}>", offset)
        first = text_of(self.data, self.raw, module >> 6, self.encoding)
        second = text_of(self.data, self.raw, attribute >> 6, self.encoding)
        if len(first) > MAX_NAME or len(second) > MAX_NAME:
            raise Malformed("a global's name is longer than any", offset)
        if self.protocol < 3:
            first, second = self.mapping(first, second)
        return self.named(first, second, offset)

    def arguments(self, args):
        """Where the items of an argument tuple lie, and how many: (start, count)."""
        if args >> 6 == 0:
            return 0, 0
        base = (args >> 6) * RECORD
        return self.arena[base], self.arena[base + 1]

    def call_key(self, callee, start, count):
        """A global and the kinds of at most six arguments, as one number; 0 where they are too many."""
        key = callee >> 6
        if count > 6 or key >= 4194304:
            return 0
        for i in range(count):
            key = key << 6 | (self.items[start + i] & 63)
        return key * 7 + count + 1  # 1 to 7: no two calls share a key, and neighbours in the table differ

    def reduce(self, callee, args, offset):
        """REDUCE: `call`, without asking again what a global with arguments of these kinds gives.

        Only calls whose signatures look at nothing but kinds are remembered, and only those that fitted.
        """
        if args & 63 == 9:
            start = 0
            count = 0
            if args >> 6:
                start = self.arena[(args >> 6) * RECORD]
                count = self.arena[(args >> 6) * RECORD + 1]
            kind = callee & 63
            if kind == 14 or kind == 32 or kind == 33 or kind == 38:
                key = self.call_key(callee, start, count)
                if key != 0 and self.known_calls[key % CALLS] == key:
                    result = self.known_results[key % CALLS] - 1
                    if result != 18 or args != 9:  # an empty OrderedDict is no more than an empty dict
                        self.effects += 1
                    if (result >= 9 and result <= 13) or (result >= 18 and result <= 21) or result == 37:
                        return self.filled(result, args, offset)
                    if result == 29:
                        return 29 | (args & ~63)
                    return result
        return self.call("REDUCE", callee, args, offset)

    def call(self, name, callee, args, offset):
        """REDUCE, INST, OBJ, NEWOBJ, NEWOBJ_EX: what the call gives, as a slot."""
        self.effects += 1
        kind = callee & 63
        if kind == 14 or kind == 32 or kind == 33 or kind == 38 or kind == 40:
            modelled = self.globals[callee >> 6][3]
            signatures = modelled.newobj if name == "NEWOBJ" else modelled.reduce
            if name != "NEWOBJ_EX" and args & 63 == 9:
                start, count = self.arguments(args)
                key = self.call_key(callee, start, count) if name == "REDUCE" else 0
                for signature in signatures:
                    if self.fits(signature, start, count):
                        if key and modelled.result >= 0 and not any(other.texts for other in signatures):
                            self.known_calls[key % CALLS] = key
                            self.known_results[key % CALLS] = modelled.result + 1
                        if modelled.checked:
                            self.checked = True
                        result = modelled.result
                        if result < 0:
                            if self.items[start] & 63 == 14 and count == 3:
                                # protocols 0 and 1, an instance of a modelled class: what NEWOBJ without arguments gives
                                return self.call("NEWOBJ", self.items[start], 9, offset)
                            return self.items[start]
                        if (result >= 9 and result <= 13) or (result >= 18 and result <= 21) or result == 37:
                            return self.filled(result, args, offset)
                        if result == 29:  # a dtype: its payload is the record of what it was made from
                            return 29 | (args & ~63)
                        return result
            self.note("SL104", f"{name} of {modelled.name} with {self.shape(args)}", offset)
            return self.event(name, callee, args, offset)
        if kind == 41:
            return self.fetch(name, callee, args, offset)
        if kind != 15 and kind != 16:
            self.note("SL110", f"{name} on a value that is no global", offset)
            return self.event(name, 15 | (self.anonymous(offset) << 6), args, offset)
        return self.event(name, callee, args, offset)

    def fetch(self, name, callee, args, offset):
        """A call of getattr: a nested class or a method, as pickle writes it below protocol 4, is the global of the dotted name.

        Anything else that it could be asked for is what it looks like: a step from an object to what lies behind it.
        """
        start, count = self.arguments(args) if args & 63 == 9 else (0, 0)
        if name == "REDUCE" and count == 2 and self.items[start] & 63 == 15 and self.items[start + 1] & 63 == 6:
            module, attribute = self.globals[self.items[start] >> 6][:2]
            step = text_of(self.data, self.raw, self.items[start + 1] >> 6, self.encoding) if self.items[start + 1] >> 6 else ""
            if module is not None and len(step) + len(attribute) < MAX_NAME and step.isidentifier() and not step.startswith("__"):
                return self.named(module, f"{attribute}.{step}", offset)
        self.fetches_only = False
        return self.event(name, 15 | (callee & ~63), args, offset)

    def anonymous(self, offset):
        """A stand-in for a callee that is no global at all."""
        return self.named(None, "<a value>", offset) >> 6

    def fits(self, signature, start, count):
        kinds = signature.kinds
        if count < signature.required or (count > len(kinds) and not signature.rest):
            return False
        for i in range(count):
            accepted = kinds[i] if i < len(kinds) else signature.rest
            if not accepted >> (self.items[start + i] & 63) & 1:
                return False
        for index, accepts in signature.texts:
            if index < count and not accepts(text_of(self.data, self.raw, self.items[start + index] >> 6, self.encoding)):
                return False
        return True

    def shape(self, args):
        """The kinds of a call's arguments, for a message."""
        if args & 63 != 9:
            return "arguments that are no tuple"
        start, count = self.arguments(args)
        names = [NAMES[self.items[start + i] & 63] for i in range(min(count, 12))]
        return "arguments (" + ", ".join(names) + ")" if names else "no arguments"

    def written(self, offset):
        """What the text of a PERSID at `offset` names, or None; see `written_ids`."""
        return written_id(bytes(self.raw[offset + 1 : _line(self.data, offset + 1, self.size)]))

    def persistent_slot(self, pid, offset):
        """PERSID, BINPERSID: a storage, a tensor, or the class that a module's source text belongs to."""
        start = 0
        count = 0
        if pid & 63 == 9 and pid >> 6:
            start = self.arena[(pid >> 6) * RECORD]
            count = self.arena[(pid >> 6) * RECORD + 1]
        if self.persistent == 1 and pid == 6 and self.data[offset] == 0x50 and self.written(offset) is not None:
            return self.add_pid(pid, offset)
        if self.persistent == 1 and count:
            first = self.items[start]
            if first == self.storage_word and first:  # the same opcode again, mostly from the memo
                return self.add_pid(pid, offset)
            if (first & 63 == 6 or first & 63 == 7) and first >> 6:
                word = text_of(self.data, self.raw, first >> 6, self.encoding)
                if word == "storage" or word == b"storage":
                    self.storage_word = first
                    return self.add_pid(pid, offset)
                if (word == "module" or word == b"module") and count == 4:
                    return self.items[start + 1]
        elif self.persistent == 2:
            if count == 3:
                return self.items[start]
            if pid & 63 == 6 or pid & 63 == 3 or pid & 63 == 4:
                self.add_pid(pid, offset)
                return 23
        self.note("SL109", "a persistent id that has no meaning here", offset)
        return self.event("PERSID", 15 | (self.named(None, "<a persistent id>", offset) & ~63), pid, offset)

    def build(self, target, state, offset, table):
        """BUILD: which state a value of this kind takes."""
        self.effects += 1
        kind = target & 63
        if state & 63 == 41:
            self.fetches_only = False
        if kind == 15 or kind == 16:
            self.event("BUILD", target, state, offset)
            return target
        rule = table.get(kind)
        if rule is None or not rule[0] >> (state & 63) & 1:
            self.note("SL105", f"BUILD gives a {NAMES[state & 63]} as state to a {NAMES[kind]}", offset)
            return target
        keys = rule[1]
        if keys is not None and state >> 6:
            base = (state >> 6) * RECORD
            start, held, count = self.arena[base], self.arena[base + 1], self.arena[base + 2]
            known = held == count
            for i in range(0, held, 2):
                slot = self.items[start + i]
                if slot & 63 != 6 or text_of(self.data, self.raw, slot >> 6, self.encoding) not in keys:
                    known = False
            if not known:
                self.note("SL105", f"BUILD sets attributes on a {NAMES[kind]}", offset)
        self.checked = True
        if kind == 29 and target >> 6:
            self.type_states[target >> 6] = -1 if target >> 6 in self.type_states else state
        return 23 if kind == 34 else 30 if kind == 37 else target

    def skip_array(self, wrapper, state, p, at, frame_end):
        """Step over the bytes that joblib puts behind the BUILD that describes an array: the offset of the next opcode."""
        if frame_end and p != frame_end:
            raise Malformed("an array's bytes begin inside a frame", at)
        found = self.skip(self, wrapper, state, p) if self.skip is not None else "raw bytes that nobody expects"
        if type(found) is str:
            raise Malformed(found, at)
        self.gaps[p] = found
        return found

    def extend(self, target, first, count, name, offset):
        """APPEND(S), ADDITEMS: into exactly a list, deque or set."""
        self.effects += 1
        kind = target & 63
        if kind == 10 or kind == 21:
            if name == "ADDITEMS":
                self.note("SL105", f"{name} on a {NAMES[kind]}", offset)
        elif kind == 12:
            if name != "ADDITEMS":
                self.note("SL105", f"{name} on a {NAMES[kind]}", offset)
            for i in range(count):
                self.hashed(self.stack[first + i], offset)
        elif kind == 15 or kind == 16:
            self.event(name, target, 0, offset)
            self.look_for_fetchers(first, count)
            return
        else:
            self.note("SL105", f"{name} on a {NAMES[kind]}", offset)
            return
        self.fill(target, first, count, False, offset)

    def look_for_fetchers(self, first, count):
        """Values go into an object whose class is not modelled: getattr among them is more than a way to fetch."""
        for i in range(count):
            if self.stack[first + i] & 63 == 41:
                self.fetches_only = False

    def set_items(self, target, first, count, name, offset):
        """SETITEM(S): into exactly a dict, OrderedDict, Counter or defaultdict."""
        self.effects += 1
        kind = target & 63
        if count % 2:
            raise Malformed("an odd number of items for a dict", offset)
        for i in range(0, count, 2):
            slot = self.stack[first + i]
            if slot & 63 != 6:
                self.hashed(slot, offset)
        if kind == 15 or kind == 16:
            self.event(name, target, 0, offset)
            self.look_for_fetchers(first, count)
            return
        if kind != 11 and not (kind >= 18 and kind <= 20):
            self.note("SL105", f"{name} on a {NAMES[kind]}", offset)
            return
        self.fill(target, first, count, True, offset)

    # ---- the pass

    def run(self, table):
        """Walk to STOP. Raises Malformed where the stream breaks; what was seen until then is kept."""
        data = self.data
        n = self.size
        p = self.start
        frame_end = 0
        stack = self.stack
        capacity = len(stack)
        sp = 0
        fence = 0
        count = 0
        at = p
        try:
            while True:
                at = p
                if p >= n:
                    raise Malformed("the stream ends before STOP", p, True)
                if frame_end and p >= frame_end:
                    if p > frame_end:
                        self.note("SL120", "an opcode reaches over the end of its frame", at)
                    frame_end = 0
                if sp + 2 >= capacity:
                    self.grow_stack()
                    stack = self.stack
                    capacity = len(stack)
                op = data[p]
                p += 1
                count += 1
                if op == 0x4B:  # BININT1
                    p = _after(p, 1, n, at)
                    stack[sp] = 3 | (at << 6)
                    sp += 1
                elif op == 0x71:  # BINPUT
                    p = _after(p, 1, n, at)
                    if sp <= fence:
                        raise Malformed("nothing to put into the memo", at)
                    self.put(data[p - 1], stack[sp - 1], at)
                elif op == 0x68:  # BINGET
                    p = _after(p, 1, n, at)
                    slot = self.get(data[p - 1], at)
                    if slot == self.rebuild:
                        self.pushed(at, sp)
                    stack[sp] = slot
                    sp += 1
                elif op == 0x72:  # LONG_BINPUT
                    p = _after(p, 4, n, at)
                    if sp <= fence:
                        raise Malformed("nothing to put into the memo", at)
                    self.put(self.u32(p - 4), stack[sp - 1], at)
                elif op == 0x6A:  # LONG_BINGET
                    p = _after(p, 4, n, at)
                    slot = self.get(self.u32(p - 4), at)
                    if slot == self.rebuild:
                        self.pushed(at, sp)
                    stack[sp] = slot
                    sp += 1
                elif op == 0x94:  # MEMOIZE
                    self.dense_puts = True
                    if sp <= fence:
                        raise Malformed("nothing to put into the memo", at)
                    self.put(self.memo_len, stack[sp - 1], at)
                elif op == 0x58 or op == 0x8C or op == 0x8D:  # BINUNICODE, SHORT_, 8
                    if op == 0x58:
                        p = _after(p, 4, n, at)
                        length = self.u32(p - 4)
                    elif op == 0x8C:
                        p = _after(p, 1, n, at)
                        length = data[p - 1]
                    else:
                        p = _after(p, 8, n, at)
                        length = _u64(data, p - 8)
                    start = p
                    p = _after(p, length, n, at)
                    if not self.ascii(start, p):
                        _utf8(self.raw[start:p], at)
                    stack[sp] = 6 | (at << 6)
                    sp += 1
                elif op == 0x4A:  # BININT
                    p = _after(p, 4, n, at)
                    stack[sp] = 3 | (at << 6)
                    sp += 1
                elif op == 0x4D:  # BININT2
                    p = _after(p, 2, n, at)
                    stack[sp] = 3 | (at << 6)
                    sp += 1
                elif op == 0x47:  # BINFLOAT
                    p = _after(p, 8, n, at)
                    stack[sp] = 5 | (at << 6)
                    sp += 1
                elif op == 0x4E:  # NONE
                    stack[sp] = 1
                    sp += 1
                elif op == 0x88 or op == 0x89:  # NEWTRUE, NEWFALSE
                    stack[sp] = 2 | (at << 6)
                    sp += 1
                elif op == 0x28:  # MARK
                    self.push_mark(fence)
                    fence = sp
                elif op == 0x5D:  # EMPTY_LIST
                    stack[sp] = self.container(10)
                    sp += 1
                elif op == 0x7D:  # EMPTY_DICT
                    stack[sp] = self.container(11)
                    sp += 1
                elif op == 0x29:  # EMPTY_TUPLE
                    stack[sp] = 9
                    sp += 1
                elif op == 0x8F:  # EMPTY_SET
                    stack[sp] = self.container(12)
                    sp += 1
                elif op == 0x85 or op == 0x86 or op == 0x87:  # TUPLE1, 2, 3
                    length = op - 0x84
                    if sp - fence < length:
                        raise Malformed("too few values for a tuple", at)
                    sp -= length
                    stack[sp] = self.make_tuple(sp, length, at)
                    sp += 1
                elif op == 0x61 or op == 0x73:  # APPEND, SETITEM
                    length = 1 if op == 0x61 else 2
                    if sp - fence < length + 1:
                        raise Malformed("too few values to append", at)
                    sp -= length
                    if op == 0x61:
                        self.extend(stack[sp - 1], sp, 1, "APPEND", at)
                    else:
                        self.set_items(stack[sp - 1], sp, 2, "SETITEM", at)
                elif (
                op == 0x74 or op == 0x65 or op == 0x75 or op == 0x90 or op == 0x6C
                or op == 0x64 or op == 0x91 or op == 0x31 or op == 0x6F or op == 0x69
            ):
                    # all that take the values above a MARK
                    if self.mp == 0:
                        raise Malformed("no MARK on the stack", at)
                    first = fence
                    length = sp - fence
                    self.mp -= 1
                    fence = self.marks[self.mp]
                    sp = first
                    if op == 0x74:  # TUPLE
                        stack[sp] = self.make_tuple(first, length, at)
                        sp += 1
                    elif op == 0x65 or op == 0x75 or op == 0x90:  # APPENDS, SETITEMS, ADDITEMS
                        if sp <= fence:
                            raise Malformed("nothing below the MARK", at)
                        if op == 0x75:
                            self.set_items(stack[sp - 1], first, length, "SETITEMS", at)
                        else:
                            self.extend(stack[sp - 1], first, length, "APPENDS" if op == 0x65 else "ADDITEMS", at)
                    elif op == 0x6C:  # LIST
                        slot = self.container(10)
                        self.fill(slot, first, length, False, at)
                        stack[sp] = slot
                        sp += 1
                    elif op == 0x64:  # DICT
                        slot = self.container(11)
                        self.set_items(slot, first, length, "DICT", at)
                        stack[sp] = slot
                        sp += 1
                    elif op == 0x91:  # FROZENSET
                        slot = self.container(13)
                        for i in range(length):
                            self.hashed(stack[first + i], at)
                        self.fill(slot, first, length, False, at)
                        stack[sp] = slot
                        sp += 1
                    elif op == 0x6F:  # OBJ
                        if length < 1:
                            raise Malformed("OBJ without a class", at)
                        slot = self.make_tuple(first + 1, length - 1, at)
                        stack[sp] = self.call("OBJ", stack[first], slot, at)
                        sp += 1
                    elif op == 0x69:  # INST
                        slot = self.make_tuple(first, length, at)
                        callee, p = self.read_global(p, at)
                        stack[sp] = self.call("INST", callee, slot, at)
                        sp += 1
                elif op == 0x30:  # POP
                    if sp > fence:
                        sp -= 1
                    elif self.mp:
                        self.mp -= 1
                        fence = self.marks[self.mp]
                    else:
                        raise Malformed("nothing to pop", at)
                elif op == 0x32:  # DUP
                    if sp <= fence:
                        raise Malformed("nothing to duplicate", at)
                    if self.holds_storage(stack[sp - 1]):
                        self.shared = True
                    stack[sp] = stack[sp - 1]
                    sp += 1
                elif op == 0x63:  # GLOBAL
                    callee, p = self.read_global(p, at)
                    stack[sp] = callee
                    sp += 1
                elif op == 0x93:  # STACK_GLOBAL
                    if sp - fence < 2:
                        raise Malformed("too few values for STACK_GLOBAL", at)
                    sp -= 2
                    callee = self.stack_global(stack[sp], stack[sp + 1], at)
                    stack[sp] = callee
                    sp += 1
                elif op == 0x52 or op == 0x81:  # REDUCE, NEWOBJ
                    if sp - fence < 2:
                        raise Malformed("too few values for a call", at)
                    sp -= 2
                    if op == 0x52:
                        if stack[sp] == self.rebuild:
                            self.add_rebuild(stack[sp + 1], at, sp)
                        stack[sp] = self.reduce(stack[sp], stack[sp + 1], at)
                    else:
                        stack[sp] = self.call("NEWOBJ", stack[sp], stack[sp + 1], at)
                    sp += 1
                elif op == 0x92:  # NEWOBJ_EX
                    if sp - fence < 3:
                        raise Malformed("too few values for a call", at)
                    sp -= 3
                    slot = self.make_tuple(sp + 1, 2, at)
                    stack[sp] = self.call("NEWOBJ_EX", stack[sp], slot, at)
                    sp += 1
                elif op == 0x62:  # BUILD
                    if sp - fence < 2:
                        raise Malformed("too few values for BUILD", at)
                    sp -= 1
                    slot = stack[sp - 1]
                    stack[sp - 1] = self.build(slot, stack[sp], at, table)
                    if slot & 63 == 37:
                        p = self.skip_array(slot, stack[sp], p, at, frame_end)
                        frame_end = 0
                elif op == 0x51 or op == 0x50:  # BINPERSID, PERSID
                    if op == 0x50:
                        p = self.skip_line(p, at) + 1
                        slot = 6
                        if self.persistent != 1 or self.written(at) is None:
                            self.note("SL109", "a persistent id written as text", at)
                    else:
                        if sp <= fence:
                            raise Malformed("nothing to take as a persistent id", at)
                        sp -= 1
                        slot = stack[sp]
                    self.checked = True
                    stack[sp] = self.persistent_slot(slot, at)
                    sp += 1
                elif op == 0x55 or op == 0x54 or op == 0x42 or op == 0x43 or op == 0x8E or op == 0x96:
                    if op == 0x55 or op == 0x43:
                        p = _after(p, 1, n, at)
                        length = data[p - 1]
                    elif op == 0x54:
                        p = _after(p, 4, n, at)
                        length = _i32(data, p - 4)
                        if length < 0:
                            raise Malformed("a string of negative length", at)
                    elif op == 0x42:
                        p = _after(p, 4, n, at)
                        length = self.u32(p - 4)
                    else:
                        p = _after(p, 8, n, at)
                        length = _u64(data, p - 8)
                    p = _after(p, length, n, at)
                    if op == 0x55 or op == 0x54:  # SHORT_BINSTRING, BINSTRING
                        stack[sp] = self.string_kind(at) | (at << 6)
                    elif op == 0x96:  # BYTEARRAY8
                        stack[sp] = 8 | (at << 6)
                    else:  # BINBYTES, SHORT_BINBYTES, BINBYTES8
                        stack[sp] = 7 | (at << 6)
                    sp += 1
                elif op == 0x8A or op == 0x8B:  # LONG1, LONG4
                    if op == 0x8A:
                        p = _after(p, 1, n, at)
                        length = data[p - 1]
                    else:
                        p = _after(p, 4, n, at)
                        length = _i32(data, p - 4)
                        if length < 0:
                            raise Malformed("an integer of negative length", at)
                    p = _after(p, length, n, at)
                    stack[sp] = (3 if length < 8 else 4) | (at << 6)
                    sp += 1
                elif op == 0x95:  # FRAME
                    p = _after(p, 8, n, at)
                    length = _u64(data, p - 8)
                    if length > n - p:
                        raise Malformed(f"a frame of {length} bytes where {n - p} are left", at, True)
                    if frame_end:
                        self.note("SL120", "a frame begins inside another frame", at)
                    frame_end = p + length
                elif op == 0x80:  # PROTO
                    p = _after(p, 1, n, at)
                    if data[p - 1] > 5:
                        raise Malformed(f"protocol {data[p - 1]}; 5 is the highest there is", at)
                    if at != self.start:
                        self.note("SL123", "PROTO stands inside the stream", at)
                    self.protocol = data[p - 1]
                elif op == 0x2E:  # STOP
                    if sp <= fence or sp < 1:
                        raise Malformed("STOP with nothing on the stack", at)
                    if frame_end and p != frame_end:
                        self.note("SL120", "STOP does not end its frame", at)
                    if sp != 1 or self.mp:
                        self.note("SL121", "values or marks are left on the stack at STOP", at)
                    self.root = stack[sp - 1]
                    self.weight(self.root)
                    self.end = p
                    break
                elif op == 0x49 or op == 0x4C or op == 0x46 or op == 0x53 or op == 0x56 or op == 0x67 or op == 0x70:
                    # INT, LONG, FLOAT, STRING, UNICODE, GET, PUT: text operands
                    first = p
                    p = self.skip_line(p, at)
                    if op == 0x67 or op == 0x70:
                        index = self.text_index(first, p, at)
                        if op == 0x67:
                            stack[sp] = self.get(index, at)
                            sp += 1
                        else:
                            if sp <= fence:
                                raise Malformed("nothing to put into the memo", at)
                            self.put(index, stack[sp - 1], at)
                    else:
                        stack[sp] = self.text_operand(op, first, p, at) | (at << 6)
                        sp += 1
                    p += 1
                elif op == 0x82 or op == 0x83 or op == 0x84:  # EXT1, EXT2, EXT4
                    length = 1 if op == 0x82 else 2 if op == 0x83 else 4
                    p = _after(p, length, n, at)
                    index = data[p - 1] if op == 0x82 else _u16(data, p - 2) if op == 0x83 else self.u32(p - 4)
                    self.note("SL106", f"extension {index} of the process's copyreg registry", at)
                    stack[sp] = 15 | (self.named(None, f"<copyreg extension {index}>", at) & ~63)
                    sp += 1
                elif op == 0x97 or op == 0x98:  # NEXT_BUFFER, READONLY_BUFFER
                    raise Malformed("an out-of-band buffer, and none comes with a file", at)
                else:
                    raise Malformed(f"0x{op:02x} is no opcode", at)
                if count > self.max_opcodes:
                    raise Malformed(f"more than {self.max_opcodes} opcodes", at)
        except BaseException:  # not `finally`: Cython copies that clause with all it refers to, beyond the recursion limit
            self.opcodes = count
            self.sp = sp
            raise
        self.opcodes = count
        self.sp = sp

    def skip_line(self, p, at):
        end = _line(self.data, p, self.size)
        if end < 0:
            raise Malformed("a line without an end", at, True)
        return end

    def string_kind(self, at):
        """Python 2 strings are text or bytes, as the caller asked; text must decode."""
        if self.encoding == "bytes":
            return 7
        text_of(self.data, self.raw, at, self.encoding)
        return 6

    def text_index(self, first, end, at):
        line = bytes(self.raw[first:end]) if end - first <= 64 else b""
        index = parse_index(line, at)
        if index < 0:
            raise Malformed("a memo index in a form that no pickler writes", at)
        return index

    def text_operand(self, op, first, end, at):
        """Check a text operand and return the kind of its value."""
        line = bytes(self.raw[first:end])
        if op == 0x49:
            if line == b"00" or line == b"01":
                return 2
            if _INT_TEXT.match(line) is None:
                self.note("SL122", "an integer in a form that readers disagree on", at)
            parse_int(line, at)
            return 3 if len(line) < 19 else 4
        if op == 0x4C:
            if _LONG_TEXT.match(line) is None:
                self.note("SL122", "an integer in a form that readers disagree on", at)
            parse_long(line, at)
            return 3 if len(line) < 19 else 4
        if op == 0x46:
            parse_float(line, at)
            return 5
        if op == 0x56:
            parse_unicode(line, at)
            return 6
        parse_string(line, at)
        return self.string_kind(at)


def _after(p, count, n, at):
    """The offset behind an operand of `count` bytes at `p`."""
    if count > n - p:
        raise Malformed(f"an operand of {count} bytes where {n - p} are left", at, True)
    return p + count


class Builder:
    """The pass that makes values, over a stream that was walked to its STOP.

    Args:
        walker: The finished walk; its bytes, its globals and no others.
        values: One object per global of the walk, in its order.
        model: Answers `call`, `build`, `extend`, `set_items`, `persistent` for all that is not plain data.
        made: Tensors that were made before, by the offsets that `Walker.plain_tensors` gives.
        ends: By some of these offsets: where the stream goes on.
        taken: The offsets of the persistent ids of their storages, which nothing else names.
    """

    def __init__(self, walker, values, model, made=None, ends=None, taken=None):
        if walker.end < 0:
            raise ValueError("only a stream that was walked to its STOP is built")
        self.walker = walker
        self.data = walker.raw
        self.raw = walker.raw
        self.encoding = walker.encoding
        self.values = values
        self.model = model
        self.ordered = _EMPTY
        for value, entry in zip(values, walker.globals if made else (), strict=False):
            if entry[4] == "collections.OrderedDict" and entry[3] is not None:
                self.ordered = value
        self.made = made if made is not None else {}
        self.ends = ends if ends is not None else {}
        self.taken = taken if taken is not None else set()
        self.stack = []
        self.memo = []
        self.sparse = {}
        self.count = 0
        self.protocol = 0

    def remember(self, index, value):
        memo = self.memo
        if index == len(memo):
            memo.append(value)
            self.count += 1
        elif index < len(memo):
            if memo[index] is _EMPTY:
                self.count += 1
            memo[index] = value
        elif index < DENSE_MEMO or index <= 4 * len(memo):
            memo.extend([_EMPTY] * (index - len(memo)))
            memo.append(value)
            self.count += 1
        else:
            if index not in self.sparse:
                self.count += 1
            self.sparse[index] = value

    def recall(self, index, at):
        memo = self.memo
        if index < len(memo):
            value = memo[index]
            if value is not _EMPTY:
                return value
        elif index in self.sparse:
            return self.sparse[index]
        raise Malformed(f"memo entry {index} was never written", at)

    def global_at(self, module, attribute, at):
        found = self.walker.by_name.get((module, attribute))
        if found is None:
            raise Malformed("a global that the walk did not list", at)
        return self.values[found >> 6]

    def line_global(self, p, at):
        """GLOBAL and INST: (value, offset behind)."""
        data = self.data
        n = len(data)
        middle = _line(data, p, n)
        end = _line(data, middle + 1, n)
        module = str(self.raw[p:middle], "utf-8")
        attribute = str(self.raw[middle + 1 : end], "utf-8")
        if self.protocol < 3:
            module, attribute = self.walker.mapping(module, attribute)
        return self.global_at(module, attribute, at), end + 1

    def named_global(self, module, attribute, at):
        """STACK_GLOBAL."""
        if type(module) is not str or type(attribute) is not str:
            return self.global_at(None, f"<computed at {at}>", at)
        if self.protocol < 3:
            module, attribute = self.walker.mapping(module, attribute)
        return self.global_at(module, attribute, at)

    def text_value(self, op, line, at):
        if op == 0x49:
            return parse_int(line, at)
        if op == 0x4C:
            return parse_long(line, at)
        if op == 0x46:
            return parse_float(line, at)
        if op == 0x56:
            return parse_unicode(line, at)
        return _decoded(parse_string(line, at), self.encoding, at)

    def call(self, name, callee, args, at):
        return self.model.call(name, callee, args, {}, at)

    def items_into(self, target, items, name, at):
        """APPENDS and ADDITEMS on what is not exactly a list or set."""
        self.model.extend(target, items, name, at)

    def pairs_into(self, target, items, name, at):
        """SETITEMS: exact dicts here, all else by the model."""
        if type(target) is dict:
            known = target
            for i in range(0, len(items), 2):
                key = items[i]
                if (type(key) is str or type(key) is bytes) and len(key) > LONG_KEY:
                    self.model.compare(len(key) >> 6)
                known[key] = items[i + 1]
                if len(known) & 15 == 0:
                    self.model.spread(known)
        else:
            self.model.set_items(target, items, name, at)

    def long_keys(self, items):
        """Have the model count long texts that become members of a set: two that are equal are compared to their end each time."""
        for key in items:
            if (type(key) is str or type(key) is bytes) and len(key) > LONG_KEY:
                self.model.compare(len(key) >> 6)

    def run(self):
        """Build the object. Raises Malformed where the walk would have, and what the model raises."""
        data = self.data
        raw = self.raw
        text = bytes(raw[: self.walker.end])
        stack = self.stack
        gaps = self.walker.gaps
        made = self.made
        ends = self.ends
        taken = self.taken
        ordered = self.ordered
        marks = []
        p = self.walker.start
        end = self.walker.end
        while p < end:
            at = p
            op = data[p]
            p += 1
            if op == 0x4B:
                stack.append(data[p])
                p += 1
            elif op == 0x71:
                self.remember(data[p], stack[-1])
                p += 1
            elif op == 0x68:
                if ends:
                    key = ends.get(at)
                    if key is not None:
                        stack.append(made[at])
                        p = key
                        continue
                stack.append(self.recall(data[p], at))
                p += 1
            elif op == 0x72:
                self.remember(_u32(data, p), stack[-1])
                p += 4
            elif op == 0x6A:
                if ends:
                    key = ends.get(at)
                    if key is not None:
                        stack.append(made[at])
                        p = key
                        continue
                stack.append(self.recall(_u32(data, p), at))
                p += 4
            elif op == 0x94:
                self.remember(self.count, stack[-1])
            elif op == 0x58:
                length = _u32(data, p)
                p += 4 + length
                stack.append(_slice_text(text, p - length, p, at))
            elif op == 0x8C:
                length = data[p]
                p += 1 + length
                stack.append(_slice_text(text, p - length, p, at))
            elif op == 0x4A:
                stack.append(_i32(data, p))
                p += 4
            elif op == 0x4D:
                stack.append(_u16(data, p))
                p += 2
            elif op == 0x47:
                stack.append(_double(data, raw, p))
                p += 8
            elif op == 0x4E:
                stack.append(None)
            elif op == 0x88:
                stack.append(True)
            elif op == 0x89:
                stack.append(False)
            elif op == 0x28:
                marks.append(len(stack))
            elif op == 0x5D:
                stack.append([])
            elif op == 0x7D:
                stack.append({})
            elif op == 0x29:
                stack.append(())
            elif op == 0x8F:
                stack.append(set())
            elif op == 0x85 or op == 0x86 or op == 0x87:
                if op == 0x85:
                    stack[-1] = (stack[-1],)
                else:
                    value = stack.pop()
                    if op == 0x86:
                        stack[-1] = (stack[-1], value)
                    else:
                        key = stack.pop()
                        stack[-1] = (stack[-1], key, value)
            elif op == 0x61:
                value = stack.pop()
                target = stack[-1]
                if type(target) is list:
                    target.append(value)
                else:
                    self.items_into(target, [value], "APPEND", at)
            elif op == 0x73:
                value = stack.pop()
                key = stack.pop()
                self.pairs_into(stack[-1], [key, value], "SETITEM", at)
            elif (
                op == 0x74 or op == 0x65 or op == 0x75 or op == 0x90 or op == 0x6C
                or op == 0x64 or op == 0x91 or op == 0x31 or op == 0x6F or op == 0x69
            ):
                first = marks.pop()
                items = stack[first:]
                del stack[first:]
                if op == 0x74:
                    stack.append(tuple(items))
                elif op == 0x65:
                    target = stack[-1]
                    if type(target) is list:
                        target.extend(items)
                    else:
                        self.items_into(target, items, "APPENDS", at)
                elif op == 0x75:
                    self.pairs_into(stack[-1], items, "SETITEMS", at)
                elif op == 0x90:
                    target = stack[-1]
                    if type(target) is set:
                        self.long_keys(items)
                        for first in range(0, len(items), 16):
                            target.update(items[first : first + 16])
                            self.model.spread(target)
                    else:
                        self.items_into(target, items, "ADDITEMS", at)
                elif op == 0x6C:
                    stack.append(items)
                elif op == 0x64:
                    target = {}
                    self.pairs_into(target, items, "DICT", at)
                    stack.append(target)
                elif op == 0x91:
                    self.long_keys(items)
                    self.model.gathered(items)
                    stack.append(frozenset(items))
                elif op == 0x6F:
                    stack.append(self.call("OBJ", items[0], tuple(items[1:]), at))
                elif op == 0x69:
                    callee, p = self.line_global(p, at)
                    stack.append(self.call("INST", callee, tuple(items), at))
            elif op == 0x30:
                if marks and marks[-1] == len(stack):
                    marks.pop()
                else:
                    stack.pop()
            elif op == 0x32:
                stack.append(stack[-1])
            elif op == 0x63:
                value, p = self.line_global(p, at)
                stack.append(value)
            elif op == 0x93:
                value = stack.pop()
                stack[-1] = self.named_global(stack[-1], value, at)
            elif op == 0x52 or op == 0x81:
                value = stack.pop()
                if made and op == 0x52:
                    key = made.get(at)
                    if key is not None:
                        stack[-1] = key
                        continue
                if value is _NOTHING and stack[-1] is ordered and op == 0x52:
                    stack[-1] = OrderedDict()
                    continue
                stack[-1] = self.call("REDUCE" if op == 0x52 else "NEWOBJ", stack[-1], value, at)
            elif op == 0x92:
                kwargs = stack.pop()
                value = stack.pop()
                stack[-1] = self.model.call("NEWOBJ_EX", stack[-1], value, kwargs, at)
            elif op == 0x62:
                value = stack.pop()
                stack[-1] = self.model.build(stack[-1], value, at)
                if gaps:
                    p = gaps.get(p, p)
            elif op == 0x51:
                stack[-1] = None if taken and at in taken else self.model.persistent(stack[-1], at)
            elif op == 0x50:
                first = p
                p = _line(data, p, end) + 1
                stack.append(self.model.persistent(bytes(raw[first : p - 1]).decode("latin-1"), at))
            elif op == 0x8D or op == 0x8E or op == 0x96 or op == 0x55 or op == 0x54 or op == 0x42 or op == 0x43:
                value = text_of(data, raw, at, self.encoding)
                if op == 0x55 or op == 0x43:
                    p += 1 + data[p]
                elif op == 0x54 or op == 0x42:
                    p += 4 + _u32(data, p)
                else:
                    p += 8 + _u64(data, p)
                stack.append(bytearray(value) if op == 0x96 else value)
            elif op == 0x8A:
                length = data[p]
                p += 1 + length
                stack.append(int.from_bytes(raw[p - length : p], "little", signed=True))
            elif op == 0x8B:
                length = _u32(data, p)
                p += 4 + length
                stack.append(int.from_bytes(raw[p - length : p], "little", signed=True))
            elif op == 0x95:
                p += 8
            elif op == 0x80:
                self.protocol = data[p]
                p += 1
            elif op == 0x2E:
                return stack[-1]
            elif op == 0x82 or op == 0x83 or op == 0x84:
                index = data[p] if op == 0x82 else _u16(data, p) if op == 0x83 else _u32(data, p)
                p += 1 if op == 0x82 else 2 if op == 0x83 else 4
                stack.append(self.global_at(None, f"<copyreg extension {index}>", at))
            else:
                first = p
                p = _line(data, p, end)
                line = bytes(raw[first:p])
                p += 1
                if op == 0x67:
                    stack.append(self.recall(parse_index(line, at), at))
                elif op == 0x70:
                    self.remember(parse_index(line, at), stack[-1])
                else:
                    stack.append(self.text_value(op, line, at))
        raise Malformed("the stream ends before STOP", p)


_EMPTY = object()
_NOTHING = ()
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS if hasattr(mmap, "MAP_ANONYMOUS") else -1
_HUGE_PAGES = getattr(mmap, "MADV_HUGEPAGE", -1)
_DOUBLE = struct.Struct(">d")
_POWERS = array.array("d", [0.0] * 128 + [2.0 ** (exponent - 1075) for exponent in range(128, 2047)])

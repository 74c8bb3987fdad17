"""Word vectors: fastText's binary models, and word2vec's binary files. Words and numbers; nothing in them names code.

fastText reads its own in C++ and believes the sizes in it, so a size that leaves the file is what can be hostile in one.
Sources: fastText's src/fasttext.cc, dictionary.cc, densematrix.cc, quantmatrix.cc and productquantizer.cc; word2vec.c.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from safeload.errors import LimitError, MalformedError
from safeload.formats.base import Contents, Listed
from safeload.formats.checked_file import CheckedFile
from safeload.formats.container import Notes
from safeload.formats.polyglot import second_stream
from safeload.source import Reading, Source
from safeload.walk import finding

__all__ = ["FastTextFile", "Word2VecFile"]

_MAGIC: Final = 793_712_314
_VERSIONS: Final = (11, 12)
_ARGUMENTS: Final = struct.Struct("<2i12id")

_LONGEST_WORD: Final = 1 << 16
_CHUNK: Final = 1 << 20
_MOST_WORDS: Final = 50_000_000
_WORD2VEC: Final = re.compile(rb"(\d{1,10}) (\d{1,6})\n")
_WRITTEN: Final = re.compile(rb"[^ \n]{1,1000}(?: -?\d[\d.e+-]*){1,8}[ \n]")  # numbers as text: the other form of such files, and a text
_LOOKED_AT: Final = 1_000
_WHOLE: Final = 64 << 20


class FastTextFile(CheckedFile):
    """The format "fasttext"."""

    name = "fasttext"
    broken = "SL851"
    largest = 1 << 40

    def claims(self, source: Source) -> bool:
        """fastText's magic and a version."""
        head = source.head(8)
        return len(head) == 8 and struct.unpack("<2i", head)[0] == _MAGIC

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """Compare every size with what there is."""
        contents.end = end = _FastText(source, contents).run()
        if end != source.size:
            notes.add("SL126", f"{source.size - end} bytes follow the model", offset=end)


class _FastText:
    def __init__(self, source: Source, contents: Contents) -> None:
        self.source, self.contents, self.at = source, contents, 0

    def take(self, form: str, what: str) -> tuple[int, ...]:
        """Numbers, little-endian."""
        layout = struct.Struct(f"<{form}")
        self.need(layout.size, what)
        found = layout.unpack(self.source.view(self.at, layout.size))
        self.at += layout.size
        return found

    def need(self, nbytes: int, what: str) -> None:
        """Raise unless so many bytes are left."""
        if nbytes < 0 or nbytes > self.source.size - self.at:
            message = f"{what} takes {nbytes} bytes, and {self.source.size - self.at} are left"
            raise MalformedError(message, where=f"@{self.at}").under("SL851")

    def skip(self, nbytes: int, what: str) -> None:
        """Go over bytes that say nothing."""
        self.need(nbytes, what)
        self.at += nbytes

    def run(self) -> int:
        """Go through the model; return where it ends.

        Raises:
            MalformedError: something is announced that is not there.
        """
        self.need(_ARGUMENTS.size, "the header")
        _, version, dim, *_ = _ARGUMENTS.unpack(self.source.read(0, _ARGUMENTS.size))
        self.at = _ARGUMENTS.size
        if version not in _VERSIONS:
            raise MalformedError(f"version {version}; known are 11 and 12").under("SL855")
        size, words, labels, _, pruned = self.take("3i2q", "the dictionary's sizes")
        if size != words + labels or min(size, words, labels) < 0 or size > _MOST_WORDS:
            raise MalformedError(f"a dictionary of {size} entries, of which {words} are words and {labels} labels").under("SL851")
        self.contents.metadata |= {"dimensions": str(dim), "words": str(words), "labels": str(labels)}
        self.entries(size)
        if pruned > 0:
            self.need(8 * pruned, "the pruned entries")
            self.skip(8 * pruned, "the pruned entries")
        quantised = self.flag("the input's kind")
        self.matrix("input", quantised=quantised)
        self.matrix("output", quantised=self.flag("the output's kind") and quantised)
        return self.at

    def flag(self, what: str) -> bool:
        """One byte: yes or no."""
        (value,) = self.take("B", what)
        if value > 1:
            raise MalformedError(f"{what} is {value}", where=f"@{self.at - 1}").under("SL855")
        return bool(value)

    def entries(self, count: int) -> None:
        """Step over the dictionary: each a word with a zero behind it, how often, and which kind."""
        piece, start = b"", self.at
        for number in range(count):
            place = self.at - start
            end = piece.find(b"\0", place)
            if end < 0 or end + 10 > len(piece):
                start = self.at
                piece = self.source.read(start, min(_CHUNK, self.source.size - start))
                end = piece.find(b"\0", 0, _LONGEST_WORD)
                if end < 0 or end + 10 > len(piece):
                    message = f"{count} words are announced, and the text ends after {number}"
                    raise MalformedError(message, where=f"@{self.at}").under("SL851")
            self.at = start + end + 10

    def matrix(self, name: str, *, quantised: bool) -> None:
        """A matrix of floats, or of codes and their centroids."""
        if not quantised:
            rows, columns = self.take("2q", f"the {name} matrix")
            self.sized(rows, columns, name)
            self.skip(4 * rows * columns, f"the {name} matrix")
            self.contents.listed.append(Listed(name, "F32", (rows, columns), 4 * rows * columns))
            return
        norm = self.flag(f"the {name}'s norms")
        rows, columns, codes = self.take("2qi", f"the {name} matrix")
        self.sized(rows, columns, name)
        self.skip(codes, f"the {name}'s codes")
        self.quantiser(name)
        if norm:
            self.skip(rows, f"the {name}'s norms")
            self.quantiser(name)
        self.contents.listed.append(Listed(name, "quantised", (rows, columns), codes))

    def sized(self, rows: int, columns: int, name: str) -> None:
        """Raise for a shape that no memory has."""
        if min(rows, columns) < 0 or rows * columns >= 1 << 60:
            raise MalformedError(f"a {name} matrix of {rows} by {columns}", where=f"@{self.at}").under("SL851")

    def quantiser(self, name: str) -> None:
        """A product quantiser: four sizes, 256 centroids for each dimension."""
        dim, *_ = self.take("4i", f"the {name}'s quantiser")
        if dim < 0:
            raise MalformedError(f"a quantiser of {dim} dimensions", where=f"@{self.at}").under("SL851")
        self.skip(dim * 256 * 4, f"the {name}'s centroids")


class Word2VecFile:
    """The format "word2vec"."""

    name: Final = "word2vec"

    def claims(self, source: Source) -> bool:
        """A line with two numbers, a size that fits to them, and words with as many numbers behind each."""
        head = source.head(1 << 16)
        match = _WORD2VEC.match(head)
        if match is None:
            return False
        count, dim = int(match[1]), int(match[2])
        left = source.size - match.end()
        if not count or not dim or not count * (4 * dim + 2) <= left <= count * (4 * dim + 1000):
            return False
        at = match.end()
        if _WRITTEN.match(head, at):
            return False
        for _ in range(min(count, _LOOKED_AT)):
            start = at + (head[at : at + 1] == b"\n")
            space = head.find(b" ", start, start + 1000)
            if space < 0 or b"\0" in head[start:space]:
                return len(head) < source.size and at + 1000 > len(head) and at > match.end()
            at = space + 1 + 4 * dim
            if at >= len(head):
                break
        return at <= source.size

    def read(self, source: Source, reading: Reading) -> Contents:
        """Go from word to word: all of a file of ordinary size, as far as the claim went in a larger one."""
        contents = Contents(format=self.name)
        second_stream(source, reading, contents)
        match = _WORD2VEC.match(source.head(64))
        if match is None:
            raise LimitError("no header of word vectors")
        count, dim = int(match[1]), int(match[2])
        contents.metadata |= {"words": str(count), "dimensions": str(dim)}
        contents.listed.append(Listed("vectors", "F32", (count, dim), 4 * count * dim))
        if source.size <= _WHOLE:
            self._all(bytes(source.view(0, source.size)), match.end(), count, dim, contents)
        return contents

    @staticmethod
    def _all(data: bytes, at: int, count: int, dim: int, contents: Contents) -> None:
        for number in range(count):
            space = data.find(b" ", at, at + _LONGEST_WORD)
            if space < 0 or space + 4 * dim >= len(data):
                contents.error = f"{count} words are announced, and the file ends after {number}"
                contents.findings.append(finding("SL855", contents.error, offset=at))
                return
            at = space + 1 + 4 * dim
        rest = data[at:].strip(b"\n")
        contents.end = at if rest else len(data)
        if rest:
            contents.findings.append(finding("SL126", f"{len(rest)} bytes follow the vectors", offset=at))

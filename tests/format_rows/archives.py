"""Archives and compressed streams around anything."""

from __future__ import annotations

import bz2
import gzip
from typing import Final

from tests.forge_7z import LZMA2, Folder, Step, forge_7z
from tests.forge_attacks import HOSTILE, PLAIN
from tests.forge_zip import TAR_END, Part, tar_member
from tests.forge_zip import forge as forge_zip
from tests.formats_page import FormatRow

__all__ = ["ROWS"]

_BROKEN: Final = HOSTILE[:-1] + b"\xff\xff\xff"


def _tar(*members: tuple[bytes, bytes]) -> bytes:
    return b"".join(tar_member(name, data) for name, data in members) + TAR_END


ROWS: Final = [
    FormatRow(
        format="zip",
        title="zip",
        written_by="`numpy.savez`, zip programs, model hubs",
        reads="the structure against every differential between readers, then every member as a file of its own",
        order=90,
        benign={"a pickle and a text": lambda: forge_zip(Part("a.pkl", PLAIN), Part("README.md", b"# model\n"))},
        hostile={
            "a pickle that calls `os.system`, under any name": (lambda: forge_zip(Part("notes.txt", HOSTILE)), "SL101"),
            "the same in a zip in a zip": (lambda: forge_zip(Part("a.zip", forge_zip(Part("b", HOSTILE)))), "SL101"),
            "two members of one name": (lambda: forge_zip(Part("a", PLAIN), Part("a", PLAIN)), "SL202"),
            "a name that climbs out": (lambda: forge_zip(Part("../a", PLAIN)), "SL210"),
        },
    ),
    FormatRow(
        format="tar",
        title="tar",
        written_by="tar programs, Python's tarfile",
        reads="the structure, long names and pax headers, then every member as a file of its own",
        order=91,
        benign={"a pickle and a text": lambda: _tar((b"a.pkl", PLAIN), (b"README.md", b"# model\n"))},
        hostile={
            "a pickle that calls `os.system`": (lambda: _tar((b"a", HOSTILE)), "SL101"),
            "a link out of the archive": (lambda: tar_member(b"a", kind=b"2", link=b"/etc/passwd") + TAR_END, "SL212"),
        },
    ),
    FormatRow(
        format="7z",
        title="7z",
        written_by="7-Zip, py7zr",
        reads="the header byte by byte; members packed with LZMA, LZMA2, BZip2, Deflate, Delta and branch filters, or stored. "
        "PPMd, Deflate64, BCJ2 and encryption are named, and count as not analysed",
        order=92,
        benign={"a pickle and a text": lambda: forge_7z([Folder([("a.pkl", PLAIN), ("README.md", b"# model\n")], [LZMA2])], encode=True)},
        hostile={
            "a pickle that calls `os.system`": (lambda: forge_7z([Folder([("a", HOSTILE)], [LZMA2])]), "SL101"),
            "a stream that breaks behind its payload": (lambda: forge_7z([Folder([("a", _BROKEN)], [LZMA2])]), "SL101"),
            "a header that contradicts itself": (lambda: forge_7z([Folder([("a", PLAIN)], sizes=[1])]), "SL221"),
            "an encrypted member": (lambda: forge_7z([Folder([("a", PLAIN)], [Step(b"\6\xf1\7\1", b"", bytes)])]), "SL206"),
        },
    ),
    FormatRow(
        format="gzip",
        title="gzip, zlib, bzip2, xz, lzma, lz4, zstd",
        written_by="joblib, pandas, compression programs",
        reads="what comes out, as a file of its own; a stream that breaks as far as it goes. zstd through a library",
        loads="yes, where a pickle or a joblib file comes out",
        extra="zstd",
        order=93,
        benign={"a pickle": lambda: gzip.compress(PLAIN, mtime=0)},
        hostile={
            "a pickle that calls `os.system`": (lambda: gzip.compress(HOSTILE, mtime=0), "SL101"),
            "the same in bzip2 in a tar": (lambda: gzip.compress(_tar((b"a", bz2.compress(HOSTILE))), mtime=0), "SL101"),
            "the same, cut off behind it": (lambda: gzip.compress(HOSTILE, mtime=0)[:-6], "SL101"),
        },
    ),
]

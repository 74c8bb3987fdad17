"""HDF5 files, as Keras, h5py, PyTables and pandas write them: the structure is read, numbers and filters are not.

The HDF5 library opens other files that a file names, loads native libraries for filters and allocates what a header announces;
PyTables and pandas unpickle attributes and elements. So the structure is read here, by a reader of our own, from the superblock to
every attribute, and whatever leads out of the file, stands for more than it stores, or is a stream, is a finding. A structure that
is not read is a finding, too (SL815): nothing is passed by in silence.
"""

from __future__ import annotations

from typing import Final

from safeload.errors import MalformedError, SafeloadError
from safeload.findings import Level
from safeload.formats.base import Contents
from safeload.formats.container import Notes
from safeload.formats.first_bytes import hdf5_start
from safeload.formats.hdf5.objects import Objects
from safeload.formats.hdf5.space import NotAnalysedError
from safeload.formats.hdf5.superblock import Superblock, read_superblock
from safeload.formats.polyglot import second_stream
from safeload.source import Reading, Source
from safeload.walk import finding

__all__ = ["Hdf5File", "hidden_hdf5"]

_BLANK: Final = 4096


class Hdf5File:
    """The format "hdf5"."""

    name: Final = "hdf5"

    def claims(self, source: Source) -> bool:
        """By its signature, at the first byte or where else the library looks for it. Asked last: what stands in front may be a file."""
        return hdf5_start(source, front=True) is not None

    def read(self, source: Source, reading: Reading) -> Contents:
        """Read the structure; attributes and texts are looked at, numbers are not fetched."""
        start = hdf5_start(source, front=True) or 0
        contents = _read(source, reading, start)
        if start:
            second_stream(source, reading, contents)
            contents.findings.append(finding("SL818", f"{start} bytes of a user block stand in front of the HDF5 data"))
        return contents


def _read(source: Source, reading: Reading, start: int) -> Contents:
    contents = Contents(format=Hdf5File.name)
    notes = Notes(None)
    try:
        block = read_superblock(source, start)
        _about(block, source, contents, notes)
        Objects(block.space, reading, contents, notes).walk(block.root, block.extension)
    except NotAnalysedError as error:
        notes.add("SL815", f"not analysed: {error.message}")
    except MalformedError as error:
        contents.error = error.message
        notes.add(error.rule or "SL811", error.message)
    except SafeloadError as error:
        contents.error = str(error)
    contents.findings += notes.done()
    return contents


def _about(block: Superblock, source: Source, contents: Contents, notes: Notes) -> None:
    """What the superblock says of the file as a whole."""
    contents.metadata["superblock"] = str(block.version)
    contents.end = block.end
    if block.driver is not None:
        notes.add("SL812", "the file says that it is spread over other files, by a driver of its own")
    if block.end > source.size:
        message = f"the file says that it ends at byte {block.end}, and has {source.size}"
        raise MalformedError(message).under("SL502")
    if block.end < source.size:
        rest = source.size - block.end
        blank = not bytes(source.view(block.end, min(rest, _BLANK))).strip(b"\0\r\n\t ")
        message = f"{rest} bytes follow the end that the file itself names"
        notes.add("SL811", message, offset=block.end, level=Level.NOTE if blank and rest <= _BLANK else Level.WARNING)


def hidden_hdf5(source: Source, reading: Reading, contents: Contents, *, container: bool) -> None:
    """Read what the HDF5 library finds behind a front of another format: it looks at bytes 512, 1024 and so on, too.

    Args:
        source: The file.
        reading: How.
        contents: What the front's reader found; takes the findings.
        container: The front is an archive whose members were all looked at, so that this may be one of them.
    """
    start = hdf5_start(source, front=False)
    if start is None:
        return
    message = f"the file is {contents.format} from its front, and the HDF5 library finds a file of its own at byte {start}"
    contents.findings.append(finding("SL213", message, offset=start, level=Level.NOTE if container else None))
    if not container:
        found = _read(source, reading, start)
        contents.findings += found.findings
        contents.parts += found.parts

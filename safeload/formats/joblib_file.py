"""joblib's files: pickle streams with the bytes of arrays between the opcodes.

`joblib.load` steps over those bytes where `pickle.load` takes them for opcodes, so both ways through the file are looked at.
A compressed file of joblib's is read by `compressed_file` and comes here unpacked.
"""

from __future__ import annotations

from safeload.findings import Level, escape
from safeload.formats.base import Contents, StreamPart
from safeload.formats.pickle_file import PickleFile, names_joblib
from safeload.source import Limits, Reading, Source
from safeload.walk import Walk, finding, walk
from safeload.walk.raw_arrays import OLD_WRAPPERS, WRAPPERS, RawArrays, resolve_joblib

__all__ = ["JoblibFile"]



class JoblibFile(PickleFile):
    """The format "joblib"."""

    name = "joblib"

    def claims(self, source: Source) -> bool:
        """A pickle stream that names joblib's description of an array."""
        return super().claims(source) and source.size <= Limits().stream_bytes and names_joblib(source)

    def read(self, source: Source, reading: Reading) -> Contents:
        """Walk every stream of the file, and those of its object arrays."""
        contents = super().read(source, reading)
        names = {name for part in contents.parts for name in part.walk.globals}
        if not names & (WRAPPERS | OLD_WRAPPERS):
            contents.format = PickleFile.name  # the name stood in a text
            return contents
        for name in sorted(names & OLD_WRAPPERS):
            message = f"{escape(name)}: joblib before 0.10 kept arrays in files of their own, which are not looked at"
            contents.findings.append(finding("SL215", message, level=Level.NOTE))
        for part in list(contents.parts):
            _other_ways(contents, reading, part)
        return contents

    def walk(self, data: memoryview, at: int, reading: Reading) -> Walk:
        """Walk one stream and step over the arrays in it."""
        skip = RawArrays(reading.limits, reading.encoding)
        return walk(data, at, limits=reading.limits, encoding=reading.encoding, resolve=resolve_joblib, skip=skip)


def _other_ways(contents: Contents, reading: Reading, part: StreamPart) -> None:
    """Add the streams of object arrays, and what `pickle.load` would find in the bytes of the others."""
    skip = part.walk.walker.skip
    if not isinstance(skip, RawArrays) or not skip.found:
        return
    arrays = list(skip.found.values())
    contents.metadata["arrays"] = str(int(contents.metadata.get("arrays", "0")) + len(arrays))
    inner = [(array.start, array.stream) for array in arrays if array.stream is not None]
    contents.parts += (StreamPart(member=None, offset=start, data=part.data, walk=stream) for start, stream in inner)
    plain = walk(part.data, part.offset, limits=reading.limits, encoding=reading.encoding)
    first = arrays[0].start
    known = {name for other in (part.walk, *(stream for _, stream in inner)) for name in other.globals}
    strangers = [entry for entry in plain.walker.globals if entry[2] >= first and entry[0] and entry[4] not in known]
    if not strangers:
        return
    from safeload.walk.names import know

    # Without joblib the stream of an object array goes on with the memo of the stream around it: its names then are others,
    # mostly of nothing that exists.
    dangerous = [entry for entry in strangers if know(str(entry[0]), entry[1]).level is Level.ERROR]
    worst = (dangerous or strangers)[0]
    message = f"read without joblib, the bytes of an array go on as opcodes and name {escape(worst[4])}"
    contents.findings.append(finding("SL125", message, offset=worst[2], level=None if dangerous or not inner else Level.WARNING))
    if dangerous:
        contents.parts.append(StreamPart(member=None, offset=part.offset, data=part.data, walk=plain))

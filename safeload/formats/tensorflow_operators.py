"""What is known of TensorFlow's operators: which there are, and which of them do more than compute.

A SavedModel is a program: its operators open files, write them, connect and call Python as soon as the model runs, and some as soon
as it is loaded. TensorFlow says so itself, and leaves it to whoever loads a model.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["DANGEROUS", "NAMES_FILE", "OPAQUE", "SAVERS", "known_operators"]

_READS: Final = "reads files"
_WRITES: Final = "writes files"
_SERVES: Final = "connects to other machines"
_PYTHON: Final = "calls a Python function"

DANGEROUS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("PyFunc", "PyFuncStateless", "EagerPyFunc"), _PYTHON),
    **dict.fromkeys(
        (
            "ReadFile", "MatchingFiles", "WholeFileReader", "WholeFileReaderV2", "TextLineReader", "TextLineReaderV2",
            "FixedLengthRecordReader", "FixedLengthRecordReaderV2", "TFRecordReader", "TFRecordReaderV2", "LMDBReader", "TextLineDataset",
            "TFRecordDataset", "TFRecordDatasetV2", "FixedLengthRecordDataset", "FixedLengthRecordDatasetV2", "CSVDataset", "CSVDatasetV2",
            "ExperimentalCSVDataset", "SqlDataset", "ExperimentalSqlDataset", "LMDBDataset", "ExperimentalLMDBDataset",
            "MatchingFilesDataset", "ExperimentalMatchingFilesDataset", "LoadDataset", "SnapshotDatasetReader", "SnapshotChunkDataset",
            "ListSnapshotChunksDataset", "RecordInput", "LoadAndRemapMatrix", "GenerateVocabRemapping", "ImmutableConst",
            "BigQueryReader", "ReadAudioFile",
        ),
        _READS,
    ),
    **dict.fromkeys(
        (
            "WriteFile", "SaveDataset", "SaveDatasetV2", "SnapshotDataset", "SnapshotDatasetV2", "DatasetToTFRecord",
            "ExperimentalDatasetToTFRecord", "DumpTensor", "CreateSummaryFileWriter", "CreateSummaryDbWriter",
            "CalibrationStatisticsSaver", "FileSystemSetConfiguration",
        ),
        _WRITES,
    ),
    **dict.fromkeys(
        (
            "RpcClient", "RpcServer", "RpcServerStart", "RpcServerRegister", "RpcCall", "DataServiceDataset", "DataServiceDatasetV2",
            "DataServiceDatasetV3", "DataServiceDatasetV4", "RegisterDataset", "RegisterDatasetV2", "DistributedSave",
            "GcsConfigureBlockCache", "GcsConfigureCredentials", "BigtableClient", "RemoteFusedGraphExecute",
        ),
        _SERVES,
    ),
    "Abort": "ends the process",
}  # fmt: skip
"""Operator → what it does, wherever it stands and whatever it is given."""

SAVERS: Final[Mapping[str, tuple[int, str]]] = {
    "Save": (0, _WRITES), "SaveV2": (0, _WRITES), "SaveSlices": (0, _WRITES), "MergeV2Checkpoints": (1, _WRITES),
    "Restore": (0, _READS), "RestoreV2": (0, _READS), "RestoreSlice": (0, _READS),
    "InitializeTableFromTextFile": (1, _READS), "InitializeTableFromTextFileV2": (1, _READS),
    "CacheDataset": (1, _WRITES), "CacheDatasetV2": (1, _WRITES),
}  # fmt: skip
"""Operator → the input that names its file, and what it does. Every model that can be saved has some; the name has to come from outside."""

NAMES_FILE: Final[Mapping[str, tuple[str, str]]] = {
    "PrintV2": ("output_stream", "file://"), "DecodeProtoV2": ("descriptor_source", ""), "EncodeProto": ("descriptor_source", ""),
    "FixedUnigramCandidateSampler": ("vocab_file", ""), "Skipgram": ("filename", ""),
    **dict.fromkeys(("DebugIdentity", "DebugIdentityV2", "DebugIdentityV3", "DebugNanCount", "DebugNumericSummary"), ("debug_urls", "")),
}  # fmt: skip
"""Operator → the attribute that names a file or an address, and what it begins with when it does ("" for any text)."""

HARMLESS_NAMES: Final = ("local://", "bytes://")

OPAQUE: Final[Mapping[str, str]] = {
    "DatasetFromGraph": "runs a graph that lies in a tensor",
    "XlaCustomCall": "calls a function of a library by its name",
    "XlaCustomCallV2": "calls a function of a library by its name",
    "TRTEngineOp": "runs compiled code that lies in an attribute",
}
"""Operator → why what it does cannot be seen."""


@functools.cache
def known_operators() -> frozenset[str]:
    """Every operator that TensorFlow itself registers."""
    document = json.loads(Path(__file__).with_name("tensorflow_operators.json").read_text("utf-8"))
    return frozenset(document["operators"][""])

"""Which reader a file is for, by its content alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from safeload.findings import Level
from safeload.formats import first_bytes as first
from safeload.formats.base import Contents, Format, StreamPart
from safeload.formats.pickle_file import PickleFile, names_joblib
from safeload.lean_dataclass import replace
from safeload.source import Limits, Reading, Source
from safeload.walk import finding

__all__ = ["FORMATS", "Contents", "Format", "StreamPart", "detect", "read"]


class _Reader:
    """A reader that is imported when the first bytes of a file could be its own.

    Args:
        name: As it stands in reports.
        may: Whether a file could be its own; cheap, and true of all that the reader claims.
        make: Imports and makes it.
        starts: The first bytes for which `may` can be true, when they are few: for any other it is not even asked.
    """

    __slots__ = ("_make", "_may", "_reader", "name", "starts")

    def __init__(self, name: str, may: Callable[[Source], bool], make: Callable[[], Format], starts: bytes | None = None) -> None:
        self.name, self._may, self._make, self.starts = name, may, make, starts
        self._reader: Format | None = None

    def _get(self) -> Format:
        if self._reader is None:
            self._reader = self._make()
        return self._reader

    def claims(self, source: Source) -> bool:
        """As the reader does."""
        return self._may(source) and self._get().claims(source)

    def read(self, source: Source, reading: Reading) -> Contents:
        """As the reader does."""
        return self._get().read(source, reading)


def _torch_zip() -> Format:
    from safeload.formats.torch_zip_file import TorchZipFile

    return TorchZipFile()


def _may_be_pt2(source: Source) -> bool:
    from safeload.formats.archive_kinds import has_program

    return first.looks_like_zip(source) and has_program(_members(source))


def _may_be_shard(source: Source) -> bool:
    from safeload.formats.zip_container import archive_of

    # One archive behind another shows as bytes in front of it, or as a directory that is not where it should be.
    return first.looks_like_zip(source) and any(found.rule in ("SL201", "SL205") for found in archive_of(source, Limits()).findings)


def _shard() -> Format:
    from safeload.formats.dcp_file import DcpShardFile

    return DcpShardFile()


def _dcp_metadata() -> Format:
    from safeload.formats.dcp_file import DcpMetadataFile

    return DcpMetadataFile()


def _may_be_package(source: Source) -> bool:
    from safeload.formats.archive_kinds import is_package

    return first.looks_like_zip(source) and is_package(_members(source))


def _members(source: Source) -> list[str]:
    from safeload.formats.zip_container import archive_of

    return [member.name for member in archive_of(source, Limits()).members]


def _package() -> Format:
    from safeload.formats.package_file import PackageFile

    return PackageFile()


def _pt2() -> Format:
    from safeload.formats.pt2_file import Pt2File

    return Pt2File()


def _torchscript() -> Format:
    from safeload.formats.torch_zip_file import TorchScriptFile

    return TorchScriptFile()


def _skops() -> Format:
    from safeload.formats.skops_file import SkopsFile

    return SkopsFile()


def _keras() -> Format:
    from safeload.formats.keras_file import KerasFile

    return KerasFile()


def _keras_json() -> Format:
    from safeload.formats.keras_file import KerasJsonFile

    return KerasJsonFile()


def _hdf5() -> Format:
    from safeload.formats.hdf5 import Hdf5File

    return Hdf5File()


def _config() -> Format:
    from safeload.formats.hub_files import ConfigFile

    return ConfigFile()


def _template() -> Format:
    from safeload.formats.hub_files import TemplateFile

    return TemplateFile()


def _keras_yaml() -> Format:
    from safeload.formats.keras_yaml import KerasYamlFile

    return KerasYamlFile()


def _mlmodel() -> Format:
    from safeload.formats.mlmodel_file import MLmodelFile

    return MLmodelFile()


def _torchserve() -> Format:
    from safeload.formats.torchserve_file import TorchServeFile

    return TorchServeFile()


def _python() -> Format:
    from safeload.formats.source_file import PythonFile

    return PythonFile()


def _requirements() -> Format:
    from safeload.formats.hub_files import RequirementsFile

    return RequirementsFile()


def _yaml() -> Format:
    from safeload.formats.yaml_file import YamlFile

    return YamlFile()


def _zip() -> Format:
    from safeload.formats.zip_file import ZipFile

    return ZipFile()


def _safetensors() -> Format:
    from safeload.formats.safetensors_file import SafetensorsFile

    return SafetensorsFile()


def _gguf() -> Format:
    from safeload.formats.gguf_file import GgufFile

    return GgufFile()


def _ggml() -> Format:
    from safeload.formats.ggml_file import GgmlFile

    return GgmlFile()


def _onnx() -> Format:
    from safeload.formats.onnx_file import OnnxFile

    return OnnxFile()


def _tensorflow() -> Format:
    from safeload.formats.tensorflow_file import TensorflowFile

    return TensorflowFile()


def _tensorflow_text() -> Format:
    from safeload.formats.tensorflow_text import TensorflowTextFile

    return TensorflowTextFile()


def _tfjs() -> Format:
    from safeload.formats.tfjs_file import TfjsFile

    return TfjsFile()


def _tensorflow_checkpoint() -> Format:
    from safeload.formats.tensorflow_checkpoint import TensorflowCheckpoint

    return TensorflowCheckpoint()


def _tflite() -> Format:
    from safeload.formats.tflite_file import TfliteFile

    return TfliteFile()


def _npy() -> Format:
    from safeload.formats.npy_file import NpyFile

    return NpyFile()


def _sevenzip() -> Format:
    from safeload.formats.sevenzip_file import SevenZipFile

    return SevenZipFile()


def _catboost() -> Format:
    from safeload.formats.catboost_file import CatBoostFile

    return CatBoostFile()


def _catboost_json() -> Format:
    from safeload.formats.catboost_file import CatBoostJsonFile

    return CatBoostJsonFile()


def _lightgbm() -> Format:
    from safeload.formats.lightgbm_file import LightGbmFile

    return LightGbmFile()


def _pmml() -> Format:
    from safeload.formats.pmml_file import PmmlFile

    return PmmlFile()


def _openvino() -> Format:
    from safeload.formats.openvino_file import OpenVinoFile

    return OpenVinoFile()


def _coreml() -> Format:
    from safeload.formats.coreml_file import CoreMLFile

    return CoreMLFile()


def _coreml_weights() -> Format:
    from safeload.formats.coreml_file import CoreMLWeights

    return CoreMLWeights()


def _paddle_program() -> Format:
    from safeload.formats.paddle_file import PaddleProgram

    return PaddleProgram()


def _paddle_text() -> Format:
    from safeload.formats.paddle_file import PaddleText

    return PaddleText()


def _paddle_parameters() -> Format:
    from safeload.formats.paddle_file import PaddleParameters

    return PaddleParameters()


def _xgboost_binary() -> Format:
    from safeload.formats.xgboost_file import XGBoostBinaryFile

    return XGBoostBinaryFile()


def _xgboost_json() -> Format:
    from safeload.formats.xgboost_file import XGBoostJsonFile

    return XGBoostJsonFile()


def _xgboost_ubjson() -> Format:
    from safeload.formats.xgboost_file import XGBoostUbjsonFile

    return XGBoostUbjsonFile()


def _fasttext() -> Format:
    from safeload.formats.vectors_file import FastTextFile

    return FastTextFile()


def _word2vec() -> Format:
    from safeload.formats.vectors_file import Word2VecFile

    return Word2VecFile()


def _sentencepiece() -> Format:
    from safeload.formats.sentencepiece_file import SentencePieceFile

    return SentencePieceFile()


def _msgpack() -> Format:
    from safeload.formats.msgpack_file import MsgpackFile

    return MsgpackFile()


def _torch_tar() -> Format:
    from safeload.formats.torch_tar_file import TorchTarFile

    return TorchTarFile()


def _tar() -> Format:
    from safeload.formats.tar_file import TarFile

    return TarFile()


def _compressed() -> Format:
    from safeload.formats.compressed_file import CompressedFile

    return CompressedFile()


def _torch_legacy() -> Format:
    from safeload.formats.torch_legacy_file import TorchLegacyFile

    return TorchLegacyFile()


def _joblib() -> Format:
    from safeload.formats.joblib_file import JoblibFile

    return JoblibFile()


def _index() -> Format:
    from safeload.formats.index_file import IndexFile

    return IndexFile()


_PICKLE: Final = PickleFile()


def _may_be_joblib(source: Source) -> bool:
    return _PICKLE.claims(source) and source.size <= Limits().stream_bytes and names_joblib(source)


_MARKS: Final = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"  # of an encoding, and blanks in any

FORMATS: Final[tuple[Format, ...]] = (
    _Reader("pt2", _may_be_pt2, _pt2, b"P"),
    _Reader("dcp-shard", _may_be_shard, _shard, b"P"),
    _Reader("pytorch-package", _may_be_package, _package, b"P"),
    _Reader("torch-zip", first.looks_like_zip, _torch_zip, b"P"),
    _Reader("torchscript", first.looks_like_zip, _torchscript, b"P"),
    _Reader("skops", first.looks_like_zip, _skops, b"P"),
    _Reader("keras", first.looks_like_zip, _keras, b"P"),
    _Reader("torchserve", first.looks_like_zip, _torchserve, b"P"),
    _Reader("zip", first.looks_like_zip, _zip, b"P"),
    _Reader("safetensors", first.may_be_safetensors, _safetensors),
    _Reader("gguf", first.may_be_gguf, _gguf, b"G"),
    _Reader("ggml", first.may_be_ggml, _ggml, b"lfta"),
    _Reader("npy", first.may_be_npy, _npy, b"\x93"),
    _Reader("tflite", first.may_be_tflite, _tflite),
    _Reader("onnx", first.may_be_onnx, _onnx, first.MODEL_TAGS),
    _Reader("tensorflow", first.may_be_tensorflow, _tensorflow, b"\x08\x0a\x12"),
    _Reader("tf-checkpoint", first.may_be_checkpoint, _tensorflow_checkpoint, b"\0"),
    _Reader("keras-json", first.may_be_keras_json, _keras_json, _MARKS + b"{"),
    _Reader("7z", first.may_be_sevenzip, _sevenzip, b"7"),
    _Reader("catboost", first.may_be_catboost, _catboost, b"C"),
    _Reader("catboost-json", first.may_be_keras_json, _catboost_json, _MARKS + b"{"),
    _Reader("lightgbm", first.may_be_lightgbm, _lightgbm, b"\xeft"),
    _Reader("pmml", first.may_be_xml, _pmml, _MARKS + b"<"),
    _Reader("openvino", first.may_be_xml, _openvino, _MARKS + b"<"),
    _Reader("coreml", first.may_be_coreml, _coreml, b"\x08"),
    _Reader("coreml-weights", first.may_be_coreml_weights, _coreml_weights),
    _Reader("paddle-program", first.may_be_paddle, _paddle_program, b"\n"),
    _Reader("paddle-parameters", first.may_be_paddle_parameters, _paddle_parameters, b"\0"),
    _Reader("xgboost-binary", first.may_be_xgboost_binary, _xgboost_binary),
    _Reader("xgboost-json", first.may_be_keras_json, _xgboost_json, _MARKS + b"{"),
    _Reader("xgboost-ubjson", first.may_be_ubjson, _xgboost_ubjson, b"{"),
    _Reader("fasttext", first.may_be_fasttext, _fasttext, b"\xba"),
    _Reader("word2vec", first.may_be_word2vec, _word2vec, b"0123456789"),
    _Reader("sentencepiece", first.may_be_sentencepiece, _sentencepiece, b"\n"),
    _Reader("torch-tar", first.may_be_tar, _torch_tar),
    _Reader("tar", first.may_be_tar, _tar),
    _Reader("compressed", first.may_be_compressed, _compressed),
    _Reader("torch-legacy", first.may_be_torch_legacy, _torch_legacy),
    _Reader("dcp-metadata", first.may_be_dcp_metadata, _dcp_metadata),
    _Reader("joblib", _may_be_joblib, _joblib),
    _PICKLE,
    _Reader("msgpack", first.may_be_msgpack, _msgpack, bytes(range(0x80, 0x90)) + b"\xde\xdf"),
    _Reader("tfjs", first.may_be_json, _tfjs, b" \t\r\n{"),
    _Reader("paddle-json", first.may_be_json, _paddle_text, b" \t\r\n{"),
    _Reader("tf-text", first.may_be_graph_text, _tensorflow_text),
    _Reader("index", first.may_be_json, _index, b" \t\r\n{"),
    _Reader("config", first.may_be_config, _config, b"\xef\xbb\xbf \t\r\n{["),
    _Reader("chat-template", first.may_be_text, _template),
    _Reader("requirements", first.may_be_text, _requirements),
    _Reader("python-source", first.may_be_python, _python),
    _Reader("keras-yaml", lambda source: first.may_be_yaml(source, 16 << 20), _keras_yaml),
    _Reader("mlmodel", first.may_be_yaml, _mlmodel),
    _Reader("yaml", first.may_be_yaml, _yaml),
    _Reader("hdf5", lambda source: first.hdf5_start(source, front=True) is not None, _hdf5),
)
"""In the order in which they are asked; the first that claims a file reads it."""

_CONTAINERS: Final = frozenset({"keras", "tar", "zip"})
"""Archives of which every member was read as a file, so that one of them may lie where another format is looked for."""


_BY_FIRST: Final[dict[bytes, tuple[Format, ...]]] = {}


def _asked(head: bytes) -> tuple[Format, ...]:
    """The readers for which a file that begins with this byte is worth a question, in their order."""
    found = _BY_FIRST.get(head)
    if found is None:
        starts = ((reader, getattr(reader, "starts", None)) for reader in FORMATS)
        found = _BY_FIRST[head] = tuple(reader for reader, few in starts if few is None or head in few)
    return found


def detect(source: Source) -> Format | None:
    """The reader for a file, or None when nobody claims it."""
    return next((reader for reader in _asked(source.head(1)) if reader.claims(source)), None)


def read(source: Source, reading: Reading | None = None) -> Contents | None:
    """Read a file by its own format.

    Returns:
        What was found, or None when no reader claims the file.
    """
    reader = detect(source)
    if reader is None:
        return _zip_only(source, reading or Reading())
    reading = reading or Reading()
    contents = reader.read(source, reading)
    if any(part.walk.walker.events for part in contents.parts):
        from safeload.formats.inner_bytes import read_inner  # of a stream that calls nothing, nothing gets bytes

        read_inner(source, reading, contents)
    if contents.format == "safetensors" and contents.metadata:
        from safeload.formats.manifest import read_manifest

        read_manifest(source, reading, contents)
    if not reader.name.startswith(("torch-zip", "torchscript", "zip")) and first.trailing_zip(source):
        # An archive inside the last value of a stream is data; one behind the format's own end is a second face.
        level = Level.NOTE if contents.end == source.size else None
        message = f"the file is {reader.name} from its front and a ZIP archive from its end"
        contents.findings.append(finding("SL213", message, level=level))
    if reader.name != "hdf5" and first.hdf5_start(source, front=False) is not None:
        from safeload.formats.hdf5 import hidden_hdf5

        hidden_hdf5(source, reading, contents, container=reader.name in _CONTAINERS)
    return contents


def _zip_only(source: Source, reading: Reading) -> Contents | None:
    """A file that is nothing that is read here from its front, and an archive from its end: some readers look only there."""
    if not first.trailing_zip(source):
        return None
    from safeload.formats.zip_file import ZipFile

    contents = ZipFile().read(source, reading)
    # A self-extracting archive looks like this, too: odd, and nobody's deception as long as the front is nothing that is read here.
    contents.findings = [
        replace(item, level=Level.WARNING) if item.rule == "SL205" and item.level is Level.ERROR else item for item in contents.findings
    ]
    message = "the file is something else from its front and a ZIP archive from its end"
    contents.findings.append(finding("SL213", message, level=Level.WARNING))
    return contents


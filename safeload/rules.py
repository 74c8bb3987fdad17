"""The rules by which findings are named. Ids are stable: a retired one is never given out again."""

from __future__ import annotations

from typing import Final

from safeload.findings import Level
from safeload.lean_dataclass import dataclass

__all__ = ["RULES", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; its page is `safeload/rule_pages/<id>.md`.

    Attributes:
        id: "SL101".
        name: A short kebab-case name.
        level: The level that its findings usually have.
        summary: One line.
    """

    id: str
    name: str
    level: Level
    summary: str


_E, _W, _N = Level.ERROR, Level.WARNING, Level.NOTE

RULES: Final[dict[str, Rule]] = {
    rule.id: rule
    for rule in (
        # 1xx: what a pickle stream asks for
        Rule("SL101", "dangerous-call", _E, "calls a global that is known to run code, reach files, processes or the network"),
        Rule("SL102", "dangerous-global", _E, "names a dangerous global without calling it"),
        Rule("SL103", "unmodelled-global", _W, "names a global that safeload does not model"),
        Rule("SL104", "unmodelled-arguments", _W, "calls a modelled global with arguments that its signature does not accept"),
        Rule("SL105", "unmodelled-mutation", _W, "changes an object in a way that its type does not accept"),
        Rule("SL106", "extension-registry", _E, "asks the process's copyreg extension registry for a global"),
        Rule("SL107", "computed-global", _E, "computes the name of a global, or hides it from linear readers"),
        Rule("SL108", "deceptive-name", _E, "a global's name holds dots, controls, spaces or look-alike characters"),
        Rule("SL109", "persistent-id", _W, "a persistent id where none has a meaning"),
        Rule("SL110", "call-on-value", _W, "calls something that is not a global"),
        # 12x: how a pickle stream is written
        Rule("SL120", "frame-mismatch", _E, "a frame does not end on an opcode boundary inside the stream"),
        Rule("SL121", "stack-left-over", _W, "values or marks are left on the stack at STOP"),
        Rule("SL122", "odd-operand", _W, "a text operand in a form that readers disagree on"),
        Rule("SL123", "late-protocol", _W, "PROTO stands twice or not at the start"),
        Rule("SL124", "memo-trick", _W, "a memo index that no pickler writes"),
        Rule("SL125", "hidden-stream", _E, "a pickle stream lies where the loader does not look"),
        Rule("SL126", "trailing-bytes", _W, "bytes after the end of the stream"),
        Rule("SL127", "expansion", _E, "stands for far more values than it has bytes"),
        Rule("SL128", "several-streams", _N, "several pickle streams follow one another"),
        Rule("SL129", "malformed-stream", _W, "the stream ends or breaks before STOP"),
        Rule("SL130", "pickle-in-pickle", _N, "bytes that the stream hands to a call are themselves a model"),
        # 2xx: containers
        Rule("SL201", "zip-malformed", _E, "the archive is not a valid ZIP file"),
        Rule("SL202", "zip-duplicate-member", _E, "two members have the same name, or differ only in case or slashes"),
        Rule("SL203", "zip-header-mismatch", _E, "a local header disagrees with the central directory"),
        Rule("SL204", "zip-overlap", _E, "members overlap, or lie inside one another"),
        Rule("SL205", "zip-unaccounted-bytes", _E, "bytes that belong to no member: in front, between, or behind"),
        Rule("SL206", "zip-encrypted", _W, "a member is flagged as encrypted or patched"),
        Rule("SL207", "zip-method", _W, "a compression method that is not read"),
        Rule("SL208", "zip-bomb", _E, "a member unpacks to far more than it holds"),
        Rule("SL209", "zip-crc-mismatch", _E, "a member's bytes do not have the recorded CRC"),
        Rule("SL210", "unsafe-member-name", _E, "a member name is absolute, climbs with '..', or holds controls or backslashes"),
        Rule("SL211", "mixed-top-directories", _W, "a torch archive with more than one top directory"),
        Rule("SL212", "tar-unsafe-member", _E, "a tar member that is a link, device, sparse file or has an unsafe name"),
        Rule("SL213", "polyglot", _E, "the file is valid in two formats at once"),
        Rule("SL214", "zip-missing-record", _E, "a record that the format demands is missing"),
        Rule("SL215", "zip-extra-member", _N, "a member that the format does not know"),
        Rule("SL216", "script-code", _W, "TorchScript code is in the archive; it is read as text and never compiled"),
        Rule("SL217", "nesting", _E, "containers are nested deeper than is read"),
        Rule("SL218", "zip-unusual-field", _W, "a zip field that readers interpret differently"),
        Rule("SL219", "tar-malformed", _E, "the archive is not a valid tar file"),
        Rule("SL220", "tar-unusual-field", _W, "a tar field that readers interpret differently"),
        Rule("SL221", "7z-malformed", _E, "the archive is not a valid 7z file"),
        Rule("SL222", "not-unpacked", _W, "what lies here is packed in a way that is not read"),
        # 3xx: tensors and storages
        Rule("SL301", "out-of-bounds", _E, "a tensor reaches outside its storage"),
        Rule("SL302", "storage-size", _E, "a storage's size disagrees with its record"),
        Rule("SL303", "malformed-tensor", _E, "a tensor's description contradicts itself"),
        Rule("SL304", "missing-storage", _E, "a storage that the stream names is not in the file"),
        Rule("SL305", "unused-storage", _N, "a storage record that no tensor uses"),
        # 4xx: other formats
        Rule("SL401", "safetensors-header", _E, "the safetensors header is not valid"),
        Rule("SL402", "safetensors-layout", _E, "tensors overlap, leave holes, or leave the file"),
        # 80x: Keras' configurations
        Rule("SL801", "keras-config", _E, "a Keras configuration is not valid, or can be read in two ways"),
        Rule("SL802", "keras-lambda", _E, "a Keras configuration holds marshalled Python code"),
        Rule("SL803", "keras-dangerous-name", _E, "a Keras configuration names something that is known to run code or to reach out"),
        Rule("SL804", "keras-custom-object", _W, "a Keras configuration names something that is none of Keras' own objects"),
        Rule("SL805", "keras-registered-name", _W, "a Keras object is registered under the name of another"),
        Rule("SL806", "keras-outside-file", _E, "a Keras layer loads a file or an address when it is made"),
        Rule("SL807", "keras-pickled-module", _W, "a Keras layer unpickles a torch module that is kept in the configuration"),
        # 81x: HDF5
        Rule("SL811", "hdf5-malformed", _E, "the structure of an HDF5 file is not valid"),
        Rule("SL812", "hdf5-outside-file", _E, "an HDF5 file leads into other files"),
        Rule("SL813", "hdf5-expansion", _E, "an HDF5 dataset stands for far more bytes than the file has"),
        Rule("SL814", "hdf5-filter", _W, "an HDF5 dataset needs a filter that nobody registered"),
        Rule("SL815", "hdf5-not-analysed", _W, "a structure of an HDF5 file that is not read"),
        Rule("SL816", "hdf5-stream", _N, "a pickle stream is kept in an HDF5 file"),
        Rule("SL817", "hdf5-indirection", _N, "a soft link, or a reference of another kind, in an HDF5 file"),
        Rule("SL818", "hdf5-user-block", _N, "bytes of another program stand in front of the HDF5 data"),
        # 82x: what lies beside the weights
        Rule("SL821", "remote-code", _W, "a configuration names Python code that lies beside it"),
        Rule("SL822", "code-elsewhere", _E, "a configuration names code of another repository"),
        Rule("SL823", "imported-name", _E, "a configuration holds a dotted name that a library imports"),
        Rule("SL824", "outside-directory", _E, "a configuration names a file outside of its directory"),
        Rule("SL825", "link-outside", _E, "a link in a directory leads out of it"),
        Rule("SL826", "direct-requirement", _W, "a list of requirements installs from an address"),
        Rule("SL827", "asks-for-trust", _W, "a configuration asks to trust remote code"),
        Rule("SL828", "config-not-read", _W, "a configuration could not be read, or not as a whole"),
        # 5xx: not a model
        Rule("SL501", "not-a-model", _W, "the file is something else"),
        Rule("SL502", "truncated", _W, "the file ends too early"),
        Rule("SL503", "empty", _W, "the file has no bytes"),
        # 6xx: pins and policy
        Rule("SL601", "digest-mismatch", _E, "the bytes are not the pinned bytes"),
        Rule("SL602", "unpinned", _W, "no pin covers the file"),
        Rule("SL603", "format-mismatch", _E, "the format is not the pinned format"),
        Rule("SL604", "unlocked-file", _E, "a file that the lock does not list lies in a complete model's directory"),
        Rule("SL605", "new-globals", _W, "the file names globals that it did not name when it was pinned"),
        # 70x: GGUF, and chat templates wherever they stand
        Rule("SL701", "gguf-malformed", _E, "the header, the metadata or the tensor table of a GGUF file is not valid"),
        Rule("SL702", "gguf-layout", _E, "tensors of a GGUF file overlap, are misaligned, or leave the file"),
        Rule("SL703", "template-escape", _E, "a chat template reaches for Python's own objects"),
        Rule("SL704", "template-loads", _E, "a chat template loads another file"),
        Rule("SL705", "template-computed", _W, "a chat template computes the name of what it reaches for"),
        Rule("SL706", "template-cost", _W, "a chat template asks for far more work than a conversation needs"),
        Rule("SL707", "template-unreadable", _W, "a chat template that Jinja does not parse, or that is too long to be judged"),
        Rule("SL708", "gguf-unusual", _W, "something in a GGUF file that no known writer writes"),
        # 71x: ONNX
        Rule("SL711", "onnx-external-path", _E, "data or code of an ONNX model lies where no model's data should"),
        Rule("SL712", "onnx-custom-operator", _W, "an ONNX operator that neither ONNX, ONNX Runtime nor the model defines"),
        Rule("SL713", "onnx-dangerous-operator", _E, "an ONNX operator that runs code, reaches files or the network"),
        Rule("SL714", "onnx-malformed", _E, "an ONNX model is no valid protobuf message, or one that parsers read differently"),
        Rule("SL715", "onnx-tensor", _E, "an ONNX tensor's description contradicts its bytes"),
        Rule("SL716", "onnx-function", _E, "a function of an ONNX model does not end, or takes an operator's name"),
        Rule("SL717", "onnx-unknown-field", _W, "a field that ONNX does not have"),
        Rule("SL718", "onnx-external-data", _N, "tensors of an ONNX model have their data in another file"),
        # 72x: TensorFlow and TensorFlow Lite
        Rule("SL721", "tensorflow-dangerous-operator", _E, "a TensorFlow operator that reaches files, other machines or Python"),
        Rule("SL722", "tensorflow-custom-operator", _W, "an operator that TensorFlow does not have"),
        Rule("SL723", "tensorflow-malformed", _E, "a TensorFlow file is no valid protobuf message, or one that parsers read differently"),
        Rule("SL724", "tensorflow-asset-path", _E, "a file of a TensorFlow model lies outside of its directory"),
        Rule("SL725", "tensorflow-opaque", _W, "part of a TensorFlow model whose doing cannot be seen"),
        Rule("SL726", "tflite-malformed", _E, "a TensorFlow Lite model contradicts itself, or leaves the file"),
        Rule("SL727", "tflite-custom-operator", _W, "an operator of a TensorFlow Lite model that comes out of a library"),
        Rule("SL728", "tflite-tensor", _E, "a TensorFlow Lite tensor's description contradicts its bytes"),
        Rule("SL729", "tensorflow-unknown-field", _W, "a field that TensorFlow does not have"),
        # 73x: TorchScript code, .pt2, torch.package and distributed checkpoints
        Rule("SL731", "script-dangerous-operator", _E, "TorchScript code calls an operator that reaches files, processes or the network"),
        Rule("SL732", "script-custom-operator", _W, "TorchScript code calls an operator out of a library"),
        Rule("SL733", "script-unusual-code", _W, "TorchScript code that torch does not write, or more than is looked at"),
        Rule("SL734", "pt2-target", _E, "an exported program calls something that is no known operator"),
        Rule("SL735", "pt2-native-code", _E, "an archive carries compiled code that is loaded into the process"),
        Rule("SL736", "pt2-expression", _E, "an exported program holds an expression that is evaluated and is none of sizes"),
        Rule("SL737", "package-code", _W, "a torch.package archive carries Python code that runs when it is imported"),
        Rule("SL739", "dcp-malformed", _E, "a distributed checkpoint contradicts itself"),
        # 84x: skops
        Rule("SL841", "skops-dangerous-type", _E, "a skops node names something that is known to run code or to reach out"),
        Rule("SL842", "skops-unknown-type", _W, "a skops node names a type that is none of scikit-learn's"),
        Rule("SL843", "skops-type-confusion", _E, "a skops node names one thing where it is judged and another where it is made"),
        Rule("SL844", "skops-schema", _W, "the schema is not what skops writes"),
        # 85x: boosted trees, PMML
        Rule("SL851", "model-out-of-bounds", _E, "an index, size or count of a model leads out of what the model has"),
        Rule("SL852", "code-in-text", _W, "a text of a model's description reads like source code or a shell command"),
        Rule("SL853", "xml-external", _E, "an XML document brings a DTD, entities, or a reference to something outside"),
        Rule("SL854", "pmml-extension", _W, "PMML asks for something that the standard does not define"),
        Rule("SL855", "model-malformed", _W, "the model is not as its own program writes it"),
        # 86x: what says how a model is loaded
        Rule("SL861", "mlmodel-code", _W, "an MLmodel names code that is imported and called to load the model"),
        Rule("SL862", "yaml-odd", _W, "a YAML configuration is not valid, or holds tags or keys twice that readers treat differently"),
        Rule("SL863", "archive-code", _W, "an archive brings code that runs where the model is served"),
        Rule("SL864", "dangerous-source", _E, "Python source that comes with a model calls something that is known to run code"),
        Rule("SL865", "torchserve-manifest", _W, "the manifest of a model archive is not valid, or names what is not there"),
        # 87x: layers of other runtimes
        Rule("SL871", "custom-layer", _W, "a layer whose code comes from the application or a library, not from the runtime"),
        Rule("SL872", "dangerous-layer", _E, "a layer that reads or writes files, or calls Python"),
    )
}

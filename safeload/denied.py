"""Names that no policy and no lockfile may grant: whoever could call them could do anything.

This list never makes a file acceptable. Loading rests on what is modelled and what is granted; the list only stops a
grant that would undo both. It is as wide as whole modules, because a grant of one function that reaches code is a
grant of all code. A name that is not here is not thereby harmless: the grant is still somebody's decision.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from safeload.findings import escape

__all__ = ["DENIED", "denied_reason"]

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)+", re.ASCII)
_LONGEST: Final = 1_000

# Reason → names. A name stands for itself and, when it is a module or a class, for everything below it.
_BY_REASON: Final[dict[str, str]] = {
    "reaches the operating system: processes, files, the environment": """
        os posix nt ntpath posixpath sys subprocess _posixsubprocess _winapi pty tty commands popen2 shutil tempfile _osx_support
        _aix_support platform resource fcntl termios msvcrt winreg _winreg crypt pwd spwd glob fileinput io _io _pyio mmap _mmap
        codecs.open tarfile zipfile gzip.open gzip.GzipFile bz2.open bz2.BZ2File lzma.open lzma.LZMAFile linecache dbm shelve sqlite3
        _sqlite3 mailbox mailcap netrc logging argparse.FileType argparse.ArgumentParser configparser imghdr sndhdr wave aifc sunau
        zipapp filecmp cgi cgitb wsgiref pipes""",
    "runs or compiles code": """
        runpy code codeop bdb pdb trace timeit profile cProfile pstats _lsprof doctest unittest test ast symtable dis opcode idlelib
        lib2to3 tkinter turtle turtledemo pyclbr _pyrepl compileall py_compile _interpreters _xxsubinterpreters _testcapi
        _testinternalcapi marshal _imp imp this antigravity readline rlcompleter cmd optparse sched site sitecustomize usercustomize
        sysconfig dataclasses.make_dataclass typing.get_type_hints typing.ForwardRef typing._eval_type""",
    "imports modules, and importing runs code": """
        importlib pkgutil zipimport modulefinder _frozen_importlib _frozen_importlib_external ensurepip venv distutils setuptools
        _distutils_hack pkg_resources pip wheel pydoc pydoc_data inspect""",
    "is itself a loader that runs what a file asks for": """
        pickle _pickle cPickle pickletools copyreg copy_reg dill cloudpickle joblib jsonpickle hickle klepto yaml ruamel skops
        sklearn.externals.joblib pandas.read_pickle pandas.io pandas.compat.pickle_compat""",
    "reaches native memory or native code": """
        ctypes _ctypes cffi _cffi_backend llvmlite numba pyximport cython Cython triton cupy.RawKernel cupy.RawModule win32api win32com
        pythoncom jnius jpype""",
    "walks attributes or calls what it is given, and so reaches everything": """
        operator _operator functools.partial functools.partialmethod functools.reduce functools.singledispatch
        functools.singledispatchmethod functools.cached_property functools.lru_cache functools._lru_cache_wrapper functools.wraps
        functools.update_wrapper functools.cmp_to_key _functools itertools.starmap itertools.accumulate itertools.groupby
        itertools.filterfalse itertools.takewhile itertools.dropwhile types string.Formatter contextlib""",
    "works behind the interpreter's back, now or later": """
        gc atexit signal _signal faulthandler tracemalloc threading _thread dummy_threading multiprocessing _multiprocessing concurrent
        asyncio _asyncio weakref.finalize""",
    "reaches the network": """
        socket _socket socketserver ssl _ssl select selectors http urllib urllib2 httplib ftplib smtplib smtpd poplib imaplib nntplib
        telnetlib xmlrpc webbrowser uuid.getnode uuid._get_command_stdout asyncore asynchat requests urllib3 httpx aiohttp paramiko
        fabric fsspec s3fs gcsfs huggingface_hub boto3 botocore smart_open websockets zmq grpc""",
    "loads files, native libraries or code into torch": """
        torch.load torch.save torch.serialization torch.jit torch.hub torch._dynamo torch._inductor torch._functorch torch.package
        torch.distributed.rpc torch.distributed.run torch.distributed.launch torch.distributed.launcher torch.distributed.elastic
        torch.distributed.nn torch.distributed.checkpoint torch.distributed.distributed_c10d torch.distributed.init_process_group
        torch.distributed.TCPStore torch.distributed.FileStore torch.multiprocessing torch.fx torch.onnx torch.testing torch._C
        torch.classes torch.ops torch._ops torch._classes torch.library torch._library torch.compile torch.compiler torch.export
        torch._export torch._numpy torch._weights_only_unpickler torch.utils.cpp_extension torch.utils.bottleneck
        torch.utils.collect_env torch.utils.data torch.utils.model_zoo torch.utils.hipify torch.utils.tensorboard
        torch.utils.model_dump torch.utils.benchmark torch.utils._config_module torch.utils.show_pickle torch.utils.file_baton
        torch.utils.serialization torch._deploy torch._guards torch._lazy torch._utils_internal torch.cuda._memory_viz torch.from_file
        torch.storage._load_from_bytes torch.nativert torch.ao.ns torchvision.io torchaudio torch_xla""",
    "loads files, reaches memory or runs code in numpy or scipy": """
        numpy.load numpy.loads numpy.save numpy.savez numpy.savez_compressed numpy.fromfile numpy.memmap numpy.loadtxt numpy.savetxt
        numpy.genfromtxt numpy.fromregex numpy.lib numpy.f2py numpy.testing numpy.distutils numpy.ctypeslib numpy.vectorize
        numpy.frompyfunc numpy.apply_along_axis numpy.apply_over_axes numpy.fromfunction numpy.piecewise numpy.DataSource
        numpy.core.memmap numpy._core.memmap numpy.compat numpy.ndarray.tofile numpy.ndarray.dump numpy.conftest
        numpy._pytesttester scipy.io scipy.weave scipy.datasets scipy.LowLevelCallable""",
    "is a framework's door to files, downloads, templates or code": """
        keras tensorflow mlflow ray pandas.eval pandas.core.computation numexpr sympy.sympify sympy.core.sympify sympy.parsing
        sympy.lambdify sympy.utilities sympy.parse_expr jinja2 mako IPython ipykernel pexpect sh plumbum invoke click fickling onnx
        onnxruntime h5py lmdb hydra pytest _pytest execnet rpyc transformers.pipeline transformers.dynamic_module_utils debugpy
        pydevd""",
}

_EVERYTHING: Final = {
    "builtins": "is a builtin that runs code, walks attributes or reaches files",
    "__builtin__": "is a builtin that runs code, walks attributes or reaches files",
    "__builtins__": "is a builtin that runs code, walks attributes or reaches files",
}

# Plain data inside modules that are denied as a whole.
_EXEMPT: Final = frozenset(
    """
    types.SimpleNamespace http.HTTPStatus signal.Signals io.BytesIO io.StringIO _io.BytesIO _io.StringIO logging.Logger
    logging.getLogger
    torch.utils.data.dataset.TensorDataset torch.utils.data.dataset.StackDataset torch.utils.data.dataset.ConcatDataset
    torch.utils.data.dataset.ChainDataset torch.utils.data.dataset.Subset torch.utils.data.sampler.SequentialSampler
    torch.utils.data.sampler.RandomSampler torch.utils.data.sampler.SubsetRandomSampler
    torch.utils.data.sampler.WeightedRandomSampler torch.utils.data.sampler.BatchSampler
    torch.utils.data.distributed.DistributedSampler
    torch.distributed.checkpoint.metadata.Metadata torch.distributed.checkpoint.metadata.MetadataIndex
    torch.distributed.checkpoint.metadata.StorageMeta torch.distributed.checkpoint.metadata.TensorProperties
    torch.distributed.checkpoint.metadata.TensorStorageMetadata torch.distributed.checkpoint.metadata.BytesStorageMetadata
    torch.distributed.checkpoint.metadata.ChunkStorageMetadata torch.distributed.checkpoint.metadata._MEM_FORMAT_ENCODING
    torch.distributed.checkpoint.filesystem._StorageInfo
    torch.testing._internal.two_tensor.TwoTensor
    joblib.numpy_pickle.NumpyArrayWrapper
    builtins.bool builtins.bytearray builtins.bytes builtins.complex builtins.dict builtins.float builtins.frozenset builtins.int
    builtins.list builtins.range builtins.set builtins.slice builtins.str builtins.tuple
    __builtin__.bool __builtin__.bytearray __builtin__.complex __builtin__.dict __builtin__.float __builtin__.frozenset
    __builtin__.int __builtin__.list __builtin__.long __builtin__.set __builtin__.slice __builtin__.str __builtin__.tuple
    __builtin__.unicode __builtin__.xrange
    """.split()  # noqa: SIM905 — a table for people
)
_BUILTIN_EXCEPTION: Final = re.compile(r"(?:builtins|exceptions|__builtin__)\.[A-Z][A-Za-z]*(?:Error|Exception|Warning)", re.ASCII)

# Modules that others import and thereby hand on: `pkg.os.system` is `os.system`, whatever pkg is. Only names that no
# package gives to a module of its own.
_REEXPORTED: Final = frozenset(
    """
    os sys posix nt subprocess importlib builtins ctypes pickle cPickle marshal shutil socket runpy pty inspect operator functools
    atexit gc pkgutil threading multiprocessing asyncio webbrowser urllib tempfile platform
    """.split()  # noqa: SIM905 — a table for people
)

# Where torch keeps its functions of tensors: modules hold them as attributes (`self.act = torch.tanh`). Each is judged as torch.NAME is.
_KERNELS: Final = ("torch._C._nn", "torch._C._VariableFunctionsClass", "torch._C._VariableFunctions")

DENIED: Final = MappingProxyType({**{name: reason for reason, names in _BY_REASON.items() for name in names.split()}, **_EVERYTHING})
"""Name → why. It stands for everything below it too. `denied_reason` knows more: re-exports, dunders, odd names."""


def denied_reason(name: str) -> str | None:
    """Say why a global may never be granted.

    Args:
        name: "module.attribute"; may be hostile.

    Returns:
        One line in lower case, or None when a person may grant it.
    """
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        if "*" in name or "?" in name or "[" in name:
            return "a grant names one global exactly: patterns would grant what nobody has seen"
        return f"'{escape(name, 80)}' is not module.attribute in plain ASCII letters"
    return _judged(name)


@lru_cache(1024)  # a load asks about every name that the program gave to torch, always the same
def _judged(name: str) -> str | None:
    """The same for a name of the right form."""
    if name in _EXEMPT or _BUILTIN_EXCEPTION.fullmatch(name) or name == _KERNELS[1]:
        return None
    home, _, last = name.rpartition(".")
    if home in _KERNELS:
        return _judged(f"torch.{last}")
    for prefix in _prefixes(name):
        if prefix in DENIED:
            return DENIED[prefix] if prefix == name else f"lies in {prefix}, which {DENIED[prefix]}"
    for part in name.split(".")[1:]:
        if part.startswith("__") and part.endswith("__"):
            return f"{part} is one step from everything"
        if part.lstrip("_") in _REEXPORTED:
            return f"reaches the module {part.lstrip('_')} through another one"
    return None


def _prefixes(name: str) -> Iterator[str]:
    """Yield "a", "a.b", "a.b.c"."""
    at = name.find(".")
    while at >= 0:
        yield name[:at]
        at = name.find(".", at + 1)
    yield name

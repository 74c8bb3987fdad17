"""Published gadgets: who was told (the id of the advisory), what the stream names, and with what it is called.

Ids that begin with GHSA are told at https://github.com/advisories/<id>, ids that begin with CVE at
https://nvd.nist.gov/vuln/detail/<id>, and "project#number" is an issue of that project. Arguments are opcodes, as harmless as they come.
"""

from __future__ import annotations

from typing import Final

from tests.forge import BYTES, EMPTY_DICT, EMPTY_LIST, EMPTY_TUPLE, INT, NEWTRUE, NONE, TEXT

CODE: Final = TEXT("1+1")
COMMAND: Final = TEXT("true")

Gadget = tuple[str, str, str, tuple[bytes, ...]]

PICKLESCAN: Final[list[Gadget]] = [
    ("CVE-2025-1716", "pip", "main", (EMPTY_LIST,)),
    ("GHSA-655q-fx9r-782v", "pip._internal.cli.main", "main", (EMPTY_LIST,)),
    ("GHSA-v7x6-rv5q-mhwc", "timeit", "timeit", (TEXT(""), CODE)),  # CVE-2025-71351
    ("GHSA-fj43-3qmq-673f", "numpy.testing._private.utils", "runstring", (CODE, EMPTY_DICT)),  # CVE-2025-71355
    ("GHSA-4r9r-ch6f-vxmx", "torch.utils.bottleneck.__main__", "run_cprofile", (CODE, EMPTY_DICT)),  # CVE-2025-71366
    ("GHSA-4whj-rm5r-c2v8", "torch.utils.bottleneck.__main__", "run_autograd_prof", (CODE, EMPTY_DICT)),  # CVE-2025-71345
    ("GHSA-86cj-95qr-2p4f", "torch._dynamo.guards", "GuardBuilder.get", (EMPTY_DICT, CODE)),  # CVE-2025-71353
    # CVE-2025-71356
    ("GHSA-f4x7-rfwp-v3xw", "torch.fx.experimental.symbolic_shapes", "ShapeEnv.evaluate_guards_expression", (EMPTY_DICT, CODE)),
    ("GHSA-f745-w6jp-hpxx", "torch.utils.collect_env", "run", (COMMAND,)),  # CVE-2025-71350
    ("GHSA-jhph-76pp-mggw", "torch.utils.collect_env", "run_and_read_all", (NONE, COMMAND)),
    ("GHSA-h3qp-7fh3-f8h4", "torch.utils.data.datapipes.utils.decoder", "basichandlers", (TEXT("pickle"), BYTES(b""))),  # CVE-2025-71369
    ("GHSA-vr7h-p6mm-wpmh", "torch.jit.unsupported_tensor_ops", "execWrapper", (CODE, EMPTY_DICT, EMPTY_DICT)),  # CVE-2025-71370
    ("GHSA-vv6j-3g6g-2pvj", "torch.utils._config_module", "ConfigModule.load_config", (EMPTY_DICT, BYTES(b""))),  # CVE-2025-71348
    ("GHSA-5qwp-399c-mjwf", "trace", "Trace.run", (EMPTY_DICT, CODE)),
    ("GHSA-g344-hcph-8vgg", "trace", "Trace.runctx", (EMPTY_DICT, CODE)),  # CVE-2025-71352
    ("GHSA-x696-vm39-cp64", "profile", "Profile.run", (EMPTY_DICT, CODE)),
    ("GHSA-6vqj-c2q5-j97w", "profile", "Profile.runctx", (EMPTY_DICT, CODE)),
    ("GHSA-7wx9-6375-f5wh", "profile", "run", (CODE,)),  # CVE-2026-53873
    ("GHSA-49gj-c84q-6qm9", "cProfile", "run", (CODE,)),  # CVE-2025-71363
    ("GHSA-9w88-8rmg-7g2p", "cProfile", "runctx", (CODE, NONE, NONE)),  # CVE-2025-71378
    ("GHSA-f54q-57x4-jg88", "lib2to3.pgen2.grammar", "Grammar.loads", (EMPTY_DICT, BYTES(b""))),  # CVE-2025-71359
    ("GHSA-p9w7-82w4-7q8m", "lib2to3.pgen2.pgen", "ParserGenerator.make_label", (NONE, EMPTY_DICT, CODE)),  # CVE-2025-71343
    ("GHSA-3vg9-h568-4w9m", "idlelib.debugobj", "ObjectTreeItem.SetText", (EMPTY_DICT, CODE)),  # CVE-2025-71354
    ("GHSA-6w4w-5w54-rjvr", "idlelib.autocomplete", "AutoComplete.get_entity", (EMPTY_DICT, CODE)),  # CVE-2025-71358
    ("GHSA-7cq8-mj8x-j263", "idlelib.autocomplete", "AutoComplete.fetch_completions", (EMPTY_DICT, CODE)),
    ("GHSA-8r4j-24qv-fmq9", "idlelib.calltip", "Calltip.fetch_tip", (EMPTY_DICT, CODE)),  # CVE-2025-71361
    ("GHSA-9xph-j2h6-g47v", "idlelib.calltip", "get_entity", (CODE,)),  # CVE-2025-71360
    ("GHSA-m869-42cg-3xwr", "idlelib.run", "Executive.runcode", (EMPTY_DICT, CODE)),  # CVE-2025-71342
    ("GHSA-j343-8v2j-ff7w", "idlelib.pyshell", "ModifiedInterpreter.runcommand", (EMPTY_DICT, CODE)),  # CVE-2025-71357
    ("GHSA-3gf5-cxq9-w223", "idlelib.pyshell", "ModifiedInterpreter.runcode", (EMPTY_DICT, CODE)),  # CVE-2025-71340
    ("GHSA-cj3c-v495-4xqh", "code", "InteractiveInterpreter.runcode", (EMPTY_DICT, CODE)),
    ("GHSA-fqq6-7vqf-w3fg", "doctest", "debug_script", (CODE, NEWTRUE)),  # CVE-2025-71368
    ("GHSA-xp4f-hrf8-rxw7", "ensurepip", "_run_pip", (EMPTY_LIST,)),
    ("GHSA-q77w-mwjj-7mqx", "asyncio.unix_events", "_UnixSubprocessTransport._start", (EMPTY_DICT, COMMAND, NEWTRUE)),  # CVE-2025-71364
    ("GHSA-m273-6v24-x4m4", "distutils.file_util", "write_file", (TEXT("x"), EMPTY_LIST)),
    ("GHSA-4675-36f9-wf6r", "ctypes", "WinDLL", (TEXT("kernel32.dll"),)),  # CVE-2025-71323
    ("GHSA-m7j5-r2p5-c39r", "logging", "FileHandler", (TEXT("x"),)),  # CVE-2026-56304
    ("GHSA-9726-w42j-3qjr", "io", "FileIO", (TEXT("/etc/hosts"), TEXT("r"))),  # CVE-2026-53872
    ("GHSA-9726-w42j-3qjr", "urllib.request", "urlopen", (TEXT("x"), NONE)),
    ("GHSA-84r2-jw7c-4r5q", "pydoc", "locate", (TEXT("os"),)),  # CVE-2025-71320
    ("GHSA-9m3x-qqw2-h32h", "builtins", "eval.__call__", (CODE,)),  # CVE-2026-53874
    ("GHSA-vqmv-47xg-9wpr", "pty", "spawn", (EMPTY_LIST,)),
    ("GHSA-hgrh-qx5j-jfwx", "pty", "spawn", (COMMAND,)),  # CVE-2025-71322
    ("GHSA-r8g5-cgf2-4m4m", "numpy.f2py.crackfortran", "getlincoef", (CODE, EMPTY_LIST)),
    ("GHSA-rrxm-2pvv-m66x", "numpy.f2py.crackfortran", "getlincoef", (CODE, EMPTY_DICT)),  # CVE-2025-71372
    ("GHSA-3329-ghmp-jmv5", "numpy.f2py.crackfortran", "myeval", (CODE,)),  # CVE-2025-71365
    ("GHSA-cffc-mxrf-mhh4", "numpy.f2py.crackfortran", "param_eval", (CODE, EMPTY_DICT, EMPTY_DICT)),  # CVE-2025-71347
    ("GHSA-6556-fwc2-fg2p", "numpy.f2py.crackfortran", "_eval_length", (CODE, NONE)),  # CVE-2025-71339
    ("GHSA-955r-x9j8-7rhh", "_operator", "methodcaller", (TEXT("system"), COMMAND)),
    ("GHSA-46h3-79wf-xr6c", "_operator", "attrgetter", (TEXT("system"),)),
    ("GHSA-vvpj-8cmc-gx39", "pkgutil", "resolve_name", (TEXT("os:system"),)),  # CVE-2026-3490
    ("GHSA-g38g-8gr9-h9xp", "uuid", "_get_command_stdout", (COMMAND, TEXT(""))),  # CVE-2026-56315
    ("GHSA-g38g-8gr9-h9xp", "_osx_support", "_read_output", (COMMAND,)),
    ("GHSA-g38g-8gr9-h9xp", "_osx_support", "_find_build_tool", (COMMAND,)),
    ("GHSA-g38g-8gr9-h9xp", "_aix_support", "_read_cmd_output", (COMMAND,)),
    ("GHSA-g38g-8gr9-h9xp", "imaplib", "IMAP4_stream", (COMMAND,)),
    ("GHSA-g38g-8gr9-h9xp", "_pyrepl.pager", "pipe_pager", (TEXT(""), COMMAND)),
    ("GHSA-g38g-8gr9-h9xp", "test.support.script_helper", "assert_python_ok", (TEXT("-c"), CODE)),
    ("CVE-2025-46417", "ssl", "get_server_certificate", (EMPTY_TUPLE,)),
    ("picklescan#74", "marshal", "loads", (BYTES(b"N"),)),
    ("picklescan#74", "importlib", "import_module", (TEXT("os"),)),
]

FICKLING: Final[list[Gadget]] = [
    ("GHSA-565g-hwwr-4pp3", "marshal", "loads", (BYTES(b"N"),)),  # CVE-2025-67747
    ("GHSA-565g-hwwr-4pp3", "types", "FunctionType", (NONE, EMPTY_DICT)),
    ("GHSA-r7v6-mfhq-g3m2", "pty", "spawn", (COMMAND,)),  # CVE-2025-67748
    ("GHSA-wfq2-52f7-7qvj", "runpy", "run_path", (TEXT("x"),)),  # CVE-2026-22606
    ("GHSA-p523-jq9w-64x9", "cProfile", "run", (CODE,)),  # CVE-2026-22607
    ("GHSA-5hvc-6wx8-mvv4", "pydoc", "locate", (TEXT("os.system"),)),  # CVE-2026-22608
    ("GHSA-5hvc-6wx8-mvv4", "ctypes", "CDLL", (NONE,)),
    ("GHSA-q5qq-mvfm-j35x", "importlib", "import_module", (TEXT("os"),)),  # CVE-2026-22609
    ("GHSA-q5qq-mvfm-j35x", "code", "InteractiveInterpreter", ()),
    ("GHSA-q5qq-mvfm-j35x", "multiprocessing.util", "spawnv_passfds", (BYTES(b"/bin/true"), EMPTY_LIST, EMPTY_TUPLE)),
    ("GHSA-h4rm-mm56-xf63", "builtins", "__import__", (TEXT("os"),)),  # CVE-2026-22612
    ("GHSA-h4rm-mm56-xf63", "builtins", "eval", (CODE,)),
    ("GHSA-5hwf-rc88-82xm", "uuid", "_popen", (COMMAND,)),
    ("GHSA-5hwf-rc88-82xm", "linecache", "getlines", (TEXT("x"),)),
    ("GHSA-5hwf-rc88-82xm", "platform", "popen", (COMMAND,)),
    ("GHSA-r48f-3986-4f9c", "linecache", "getlines", (TEXT("x"),)),
    ("GHSA-r48f-3986-4f9c", "gc", "get_objects", ()),
    ("GHSA-r48f-3986-4f9c", "gc", "get_referrers", (EMPTY_LIST,)),
    ("GHSA-5cxw-w2xg-2m8h", "platform", "_syscmd_file", (TEXT("x"),)),
    ("GHSA-5cxw-w2xg-2m8h", "platform", "_syscmd_ver", ()),
    ("GHSA-m6fh-58r7-x697", "_posixsubprocess", "fork_exec", ()),
    ("GHSA-m6fh-58r7-x697", "site", "addsitedir", (TEXT("x"),)),  # CVE-2026-14534
    ("GHSA-m6fh-58r7-x697", "site", "execsitecustomize", ()),
    ("GHSA-m6fh-58r7-x697", "atexit", "_run_exitfuncs", ()),
    ("GHSA-m6fh-58r7-x697", "atexit", "register", (NONE,)),
    ("GHSA-wccx-j62j-r448", "pickle", "loads", (BYTES(b"N."),)),
    ("GHSA-wccx-j62j-r448", "pickle", "Unpickler", (NONE,)),
    ("GHSA-wccx-j62j-r448", "_pickle", "loads", (BYTES(b"N."),)),
    ("GHSA-fphw-536r-4p88", "pickle", "_loads", (BYTES(b"N."),)),
    ("GHSA-6ggj-6f2q-f7mx", "_interpreters", "create", ()),
    ("GHSA-6ggj-6f2q-f7mx", "_xxsubinterpreters", "run_string", (INT(0), CODE)),
    ("fickling#312", "imp", "load_source", (TEXT("x"), TEXT("y"))),
    ("fickling#312", "pipes", "Template", ()),
    ("fickling#247", "fickling.hook", "remove_hook", ()),
]

MODELSCAN: Final[list[Gadget]] = [
    ("modelscan#338", "torch.utils.collect_env", "run", (COMMAND,)),
    ("modelscan#338", "multiprocessing.util", "spawnv_passfds", (BYTES(b"/bin/true"), EMPTY_TUPLE, EMPTY_TUPLE)),
    ("modelscan#338", "mlflow.projects.backend.local", "_run_entry_point", (COMMAND,)),
    ("modelscan#338", "pandas.io.parsers.readers", "read_csv", (TEXT("x"),)),
    ("modelscan#338", "urllib.request", "urlretrieve", (TEXT("x"),)),
    ("modelscan#263", "pip", "main", (EMPTY_LIST,)),
    ("modelscan#331", "importlib", "import_module", (TEXT("builtins"),)),
    ("modelscan#28", "dill._dill", "_create_function", (NONE,)),
    ("modelscan#267", "pickle", "loads", (BYTES(b"N."),)),
]

LOADERS: Final[list[Gadget]] = [
    ("CVE-2022-45907", "torch.jit.annotations", "parse_type_line", (CODE,)),
    ("CVE-2024-5480", "torch.distributed.rpc", "rpc_sync", (TEXT("x"),)),
    ("CVE-2024-48063", "torch.distributed.nn.api.remote_module", "_recursive_script_module_receiver", (NONE,)),
    ("CVE-2025-32434", "torch.jit", "load", (TEXT("x"),)),
    ("CVE-2019-6446", "numpy", "load", (TEXT("x"),)),
    ("CVE-2020-13092", "joblib", "load", (TEXT("x"),)),
    ("CVE-2024-34997", "joblib.numpy_pickle_compat", "ZNDArrayWrapper.read", (NONE,)),
    ("CVE-2024-3660", "keras.models", "load_model", (TEXT("x"),)),
    ("CVE-2025-1550", "keras.src.saving.serialization_lib", "_retrieve_class_or_fn", (TEXT("x"),)),
    ("CVE-2025-8747", "keras.src.utils.file_utils", "get_file", (TEXT("x"),)),
    ("CVE-2025-23304", "hydra.utils", "instantiate", (EMPTY_DICT,)),
    ("CVE-2025-54412", "skops.io", "load", (TEXT("x"),)),
    ("CVE-2025-54886", "skops.io._utils", "gettype", (TEXT("os"), TEXT("system"))),
]

# "Hide & Seek" (arXiv 2508.19774) counts 133 gadgets in what ML environments carry; one or two of each kind that it describes.
KINDS: Final[list[Gadget]] = [
    ("interpreter", "pdb", "run", (CODE,)),
    ("interpreter", "bdb", "Bdb.run", (NONE, CODE)),
    ("interpreter", "code", "interact", ()),
    ("process", "subprocess", "Popen", (COMMAND,)),
    ("process", "os", "posix_spawn", (COMMAND,)),
    ("process", "pydoc", "pipepager", (TEXT(""), COMMAND)),
    ("process", "venv", "create", (TEXT("x"),)),
    ("file", "shutil", "rmtree", (TEXT("x"),)),
    ("file", "_io", "FileIO", (TEXT("x"),)),
    ("file", "pathlib", "Path.write_text", (NONE, TEXT("x"))),
    ("network", "socket", "create_connection", (EMPTY_TUPLE,)),
    ("network", "smtplib", "SMTP", (TEXT("localhost"),)),
    ("network", "telnetlib", "Telnet", (TEXT("localhost"),)),
    ("network", "requests", "get", (TEXT("x"),)),
    ("library", "ctypes.util", "find_library", (TEXT("c"),)),
    ("library", "numpy.ctypeslib", "load_library", (TEXT("c"), TEXT("."))),
    ("library", "torch._inductor.codecache", "compile_file", (TEXT(""), TEXT(""), EMPTY_LIST)),
    ("later", "signal", "signal", (INT(2), NONE)),
    ("later", "threading", "Timer", (INT(1), NONE)),
    ("later", "weakref", "finalize", (NONE, NONE)),
    ("walk", "functools", "reduce", (NONE, EMPTY_LIST)),
    ("walk", "builtins", "getattr", (TEXT("x"), TEXT("__class__"))),
    ("walk", "operator", "attrgetter", (TEXT("system"),)),
    ("code", "torch.utils.cpp_extension", "load_inline", (TEXT("x"),)),
    ("code", "types", "CodeType", ()),
    ("code", "dill", "loads", (BYTES(b"N."),)),
    ("code", "cloudpickle.cloudpickle", "_builtin_type", (TEXT("LambdaType"),)),
    ("state", "sys", "setrecursionlimit", (INT(10),)),
    ("state", "gc", "disable", ()),
]

# Shown in public against one scanner or another, and told in no advisory.
SHOWN: Final[list[Gadget]] = [
    ("shown", "distutils.spawn", "spawn", (EMPTY_LIST,)),
    ("shown", "distutils.core", "run_setup", (TEXT("x"),)),
    ("shown", "_bootsubprocess", "check_output", (EMPTY_LIST,)),
    ("shown", "multiprocessing.spawn", "prepare", (EMPTY_DICT,)),
    ("shown", "sched", "scheduler.run", (NONE,)),
    ("shown", "pydoc", "pipepager", (TEXT(""), COMMAND)),
    ("shown", "site", "addpackage", (TEXT("x"), TEXT("y"), NONE)),
    ("shown", "importlib.machinery", "SourceFileLoader", (TEXT("x"), TEXT("y"))),
    ("shown", "zipimport", "zipimporter", (TEXT("x"),)),
    ("shown", "inspect", "getattr_static", (TEXT("x"), TEXT("y"))),
    ("shown", "operator", "call", (NONE,)),
    ("shown", "code", "compile_command", (CODE,)),
    ("shown", "logging.config", "dictConfig", (EMPTY_DICT,)),
    ("shown", "logging.config", "fileConfig", (TEXT("x"),)),
    ("shown", "gettext", "install", (TEXT("x"),)),
    ("shown", "sysconfig", "get_paths", ()),
    ("shown", "codecs", "open", (TEXT("x"),)),
    ("shown", "io", "open", (TEXT("x"), TEXT("w"))),
    ("shown", "lzma", "open", (TEXT("x"),)),
    ("shown", "xml.etree.ElementTree", "parse", (TEXT("x"),)),
    ("shown", "numpy", "memmap", (TEXT("x"),)),
    ("shown", "http.client", "HTTPSConnection", (TEXT("localhost"),)),
    ("shown", "logging.handlers", "HTTPHandler", (TEXT("localhost"), TEXT("/"))),
    ("shown", "xmlrpc.client", "ServerProxy", (TEXT("x"),)),
    ("shown", "torch.ops", "load_library", (TEXT("x"),)),
    ("shown", "torch.utils.model_zoo", "load_url", (TEXT("x"),)),
    ("shown", "gensim.utils", "unpickle", (TEXT("x"),)),
    ("shown", "mako.template", "Template", (CODE,)),
    ("shown", "pandas", "read_pickle", (TEXT("x"),)),
    ("shown", "yaml", "unsafe_load", (TEXT("x"),)),
]

EVERY: Final = [*PICKLESCAN, *FICKLING, *MODELSCAN, *LOADERS, *KINDS, *SHOWN]

# Classes that an honest pickle names as well: a warning to name, an error to call with arguments.
ONLY_CALLED: Final = {"numpy.memmap"}

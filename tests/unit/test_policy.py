"""Policy: what people allow, and what a report becomes under it."""

from __future__ import annotations

import datetime as dt
import os
import re
import tomllib
from pathlib import Path

import pytest

from safeload.errors import PolicyError
from safeload.findings import Finding, Level, Outcome, Report
from safeload.policy import (
    DENIED,
    Policy,
    Rule,
    SignerRule,
    Suppression,
    decide,
    denied_reason,
    glob_match,
    load_policy,
    parse_policy,
    read_policy,
    signer_reasons,
    snippet,
    unpinned_finding,
)

FULL = """
[tool.safeload]
unpinned = "refuse"
signature = "off"
verify = "always"
verify-signature = "load"
unknown-globals = "refuse"
allow-globals = ["argparse.Namespace"]
trust-downgrade = "refuse"

[[tool.safeload.rule]]
models = "acme/*"
signers = { all = ["acme-release"] }

[[tool.safeload.rule]]
models = "lab/**"
unpinned = "allow"
allow-globals = ["lab.config.Config"]

[[tool.safeload.suppress]]
rule = "SL126"
path = "models/old/*.pt"
reason = "our old exporter padded files"
expires = 2030-01-31
"""
DAY = dt.date(2030, 1, 1)
DIGEST = "ab" * 32


def finding(rule: str, level: Level = Level.WARNING, subject: str | None = None, message: str = "m") -> Finding:
    return Finding(rule=rule, level=level, message=message, subject=subject)


def report(
    *findings: Finding, error: str | None = None, unmodelled: tuple[str, ...] = (), path: str = "m.pt", sha256: str | None = None
) -> Report:
    return Report(path=path, format="pickle", findings=findings, error=error, unmodelled=unmodelled, sha256=sha256)


# ---- reading


def test_every_key_of_the_contract_is_read(tmp_path: Path) -> None:
    """Other programs write these names and values."""
    (tmp_path / "pyproject.toml").write_text(FULL)
    policy = load_policy(tmp_path)
    assert policy == Policy(
        unpinned="refuse",
        signature="off",
        allow_globals=("argparse.Namespace",),
        rules=(
            Rule(models="acme/*", signers=SignerRule(all=("acme-release",))),
            Rule(models="lab/**", unpinned="allow", allow_globals=("lab.config.Config",)),
        ),
        suppress=(Suppression(rule="SL126", path="models/old/*.pt", reason="our old exporter padded files", expires=dt.date(2030, 1, 31)),),
        origin=os.fspath(tmp_path / "pyproject.toml"),
    )


def test_the_same_keys_stand_at_the_top_of_safeload_toml(tmp_path: Path) -> None:
    """And that file wins over a pyproject beside it."""
    (tmp_path / "safeload.toml").write_text(
        FULL.replace("[tool.safeload]", "").replace("tool.safeload.", "").replace('"refuse"', '"warn"', 1)
    )
    (tmp_path / "pyproject.toml").write_text(FULL)
    policy = load_policy(tmp_path)
    assert (policy.unpinned, len(policy.rules), policy.origin) == ("warn", 2, os.fspath(tmp_path / "safeload.toml"))


def test_a_pyproject_that_says_nothing_is_passed_by(tmp_path: Path) -> None:
    """A package inside a repository has a pyproject of its own, and the repository's policy still holds."""
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "safeload.toml").write_text('unpinned = "allow"')
    (tmp_path / "a" / "pyproject.toml").write_text("[project]\nname = 'x'\n[tool.other]\n")
    assert load_policy(inner).unpinned == "allow"


def test_the_nearest_policy_wins(tmp_path: Path) -> None:
    inner = tmp_path / "a"
    inner.mkdir()
    (tmp_path / "safeload.toml").write_text('unpinned = "allow"')
    (inner / "pyproject.toml").write_text('[tool.safeload]\nverify = "cached"')
    policy = load_policy(inner)
    assert (policy.unpinned, policy.verify) == (None, "cached")


def test_the_working_directory_is_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "safeload.toml").write_text('unpinned = "allow"')
    monkeypatch.chdir(tmp_path)
    assert load_policy().unpinned == "allow"


def test_without_a_file_the_strict_defaults_hold(tmp_path: Path) -> None:
    """Nothing configured must mean nothing granted."""
    policy = parse_policy({})
    assert policy == Policy()
    assert (policy.unknown_globals, policy.verify, policy.signature, policy.allow_globals) == ("refuse", "always", None, ())
    assert load_policy(tmp_path / "nowhere") == Policy()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('unpined = "warn"', r"unpined: unknown key\n  hint: did you mean unpinned\?"),
        ('unpinned = "wran"', r"unpinned: 'wran' is not one of refuse, warn, allow\n  hint: did you mean warn\?"),
        ("unpinned = true", "unpinned: a string is needed, not a boolean"),
        ("allow-globals = 'a.b'", "allow-globals: an array is needed, not a string"),
        ("allow-globals = ['a.b', 3]", r"allow-globals\[1\]: a string is needed, not an integer"),
        ("allow-globals = ['a.b', 'a.b']", r"allow-globals\[1\]: 'a.b' stands there twice"),
        ("allow-globals = ['a.b', 'os.system']", r"allow-globals\[1\]: 'os.system' can never be granted: lies in os, which reaches"),
        ("allow-globals = ['numpy.*']", r"allow-globals\[0\]: .*patterns would grant what nobody has seen"),
        ("allow_globals = ['a.b']", r"allow_globals: unknown key\n  hint: did you mean allow-globals\?"),
        ("[[rule]]\nmodels = 'x'\n[[rule]]\nmodels = 'y'\nsigners = {all = [1]}", r"rule\[1\].signers.all\[0\]: a string is needed"),
        ("[[rule]]\nsigners = {all = ['a']}", r"rule\[0\].models: missing"),
        ("[[rule]]\nmodels = 'x'\nsigners = {all = []}", r"rule\[0\].signers.all: names nobody"),
        ("[[rule]]\nmodels = 'x'\nsigners = {any = [], all = ['a']}", r"rule\[0\].signers.any: names nobody"),
        ("[[rule]]\nmodels = 'x'\nsigners = {}", r"rule\[0\].signers: all or any is needed"),
        ("[[rule]]\nmodels = 'x'\nsigners = {al = ['a']}", r"rule\[0\].signers.al: unknown key"),
        ("[[rule]]\nmodels = 'x'\nallow-globals = ['eval']", r"rule\[0\].allow-globals\[0\]: 'eval' can never"),
        ("rule = 3", "rule: an array is needed, not an integer"),
        ("rule = [3]", r"rule\[0\]: a table is needed, not an integer"),
        ("[[suppress]]\nrule='SL126'\nexpires=2030-01-01\npath='x'", r"suppress\[0\].reason: missing"),
        ("[[suppress]]\nrule='SL126'\nexpires=2030-01-01\npath='x'\nreason='  '", r"suppress\[0\].reason: empty"),
        ("[[suppress]]\nrule='SL126'\nreason='r'\npath='x'", r"suppress\[0\].expires: missing"),
        ("[[suppress]]\nrule='SL126'\nreason='r'\nexpires=2030-01-01", r"suppress\[0\]: path or sha256 is needed"),
        (
            "[[suppress]]\nrule='SL126'\nreason='r'\npath='x'\nexpires='2030-01-01'",
            r"suppress\[0\].expires: a date is needed, not a string",
        ),
        ("[[suppress]]\nrule='SL126'\nreason='r'\npath='x'\nexpires=2030-01-01T00:00:00", "a date is needed, not a date with time"),
        ("[[suppress]]\nrule='SL999'\nreason='r'\npath='x'\nexpires=2030-01-01", r"suppress\[0\].rule: 'SL999' is not one of"),
        ("[[suppress]]\nrule='SL126'\nreason='r'\nsha256='x'\nexpires=2030-01-01", r"suppress\[0\].sha256: 64 lower-case hex digits"),
        ('"un\\u001bpinned" = 1', r'"un\\x1bpinned": unknown key'),
        ("a = [", "not valid TOML"),
        ("a = " + "[" * 5000, "nested too deeply"),
        ("a = " + "1" * 5000, "not valid TOML"),
    ],
)
def test_a_wrong_policy_names_the_key_and_what_was_meant(tmp_path: Path, text: str, message: str) -> None:
    """A typo that was passed over would be a rule that nobody applies."""
    path = tmp_path / "safeload.toml"
    path.write_text(text)
    with pytest.raises(PolicyError, match=message) as caught:
        load_policy(tmp_path)
    assert caught.value.where == os.fspath(path)
    assert "\x1b" not in str(caught.value)


def test_key_paths_in_a_pyproject_start_with_tool(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[[tool.safeload.rule]]\nmodels='x'\n[[tool.safeload.rule]]\nmodels='y'\nsigners={all=['']}")
    with pytest.raises(PolicyError, match=r"tool.safeload.rule\[1\].signers.all\[0\]: empty"):
        load_policy(tmp_path)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"\x00", b"unpinned = 'allow'\n\x00"])
def test_a_policy_that_is_no_text_is_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "safeload.toml").write_bytes(data)
    with pytest.raises(PolicyError):
        load_policy(tmp_path)


def test_a_named_policy_without_our_table_is_an_error(tmp_path: Path) -> None:
    """Found on the way it is passed by; named, it was meant."""
    path = tmp_path / "pyproject.toml"
    path.write_text("[project]\nname = 'x'\n")
    with pytest.raises(PolicyError, match=r"no \[tool.safeload\]"):
        read_policy(path)
    with pytest.raises(FileNotFoundError):
        read_policy(tmp_path / "absent.toml")


def test_a_directory_in_the_place_of_a_policy_is_not_passed_by(tmp_path: Path) -> None:
    (tmp_path / "safeload.toml").mkdir()
    with pytest.raises(IsADirectoryError):
        load_policy(tmp_path)


def test_policies_made_in_code_are_checked_too() -> None:
    """Types are not checked at run time, and load(policy=…) takes anybody's object."""
    with pytest.raises(PolicyError, match="not one of refuse, warn, allow"):
        Policy(unpinned="sometimes")  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="can never be granted"):
        Policy(allow_globals=("builtins.eval",))
    with pytest.raises(PolicyError, match="can never be granted"):
        Rule(models="*", allow_globals=("subprocess.Popen",))
    with pytest.raises(PolicyError, match="names nobody"):
        SignerRule()
    with pytest.raises(PolicyError, match="a table is needed"):
        parse_policy(["unpinned"])  # type: ignore[arg-type]


# ---- names that nobody may grant


@pytest.mark.parametrize(
    "name",
    """
    os.system posix.system nt.system sys.exit sys.modules subprocess.Popen importlib.import_module pickle.loads _pickle.loads
    marshal.loads ctypes.CDLL operator.attrgetter _operator.methodcaller builtins.eval builtins.exec builtins.compile
    builtins.getattr builtins.setattr builtins.delattr builtins.__import__ builtins.open builtins.input builtins.breakpoint
    builtins.globals builtins.locals builtins.vars builtins.type builtins.object builtins.map builtins.super
    builtins.memoryview builtins.print __builtin__.execfile functools.partial functools.reduce runpy.run_path
    code.InteractiveInterpreter codeop.compile_command pty.spawn socket.socket shutil.rmtree types.FunctionType
    types.CodeType inspect.getattr_static gc.get_objects atexit.register signal.signal threading.Thread
    multiprocessing.Process asyncio.unix_events._UnixSubprocessTransport webbrowser.open http.client.HTTPConnection
    urllib.request.urlopen ftplib.FTP smtplib.SMTP timeit.timeit cProfile.run profile.run pdb.run bdb.Bdb trace.Trace
    doctest.debug_script idlelib.pyshell.ModifiedInterpreter lib2to3.pgen2.pgen.ParserGenerator
    distutils.file_util.write_file setuptools.sandbox.run_setup pip.main pkgutil.resolve_name pydoc.locate site.main
    sysconfig.get_config_var torch.load torch.jit.load torch.hub.load torch.serialization.load
    torch._dynamo.guards.GuardBuilder.get torch._inductor.codecache.compile_file torch.utils.cpp_extension.load
    torch.package.PackageImporter torch.distributed.rpc.rpc_sync torch.fx.graph_module.reduce_graph_module numpy.load
    numpy.f2py.crackfortran.getlincoef numpy.testing.rundocs joblib.load dill.loads cloudpickle.loads copyreg.add_extension
    torch.utils.data.dataloader.DataLoader torch.utils.data.datapipes.utils.decoder.basichandlers
    torch.distributed.checkpoint.filesystem.FileSystemReader weakref.finalize _thread.start_new_thread _posixsubprocess.fork_exec
    """.split(),  # noqa: SIM905 — a table for people
)
def test_names_that_reach_everything_can_never_be_granted(name: str) -> None:
    """Each family that can never be granted, with published gadgets as members."""
    assert denied_reason(name)
    with pytest.raises(PolicyError, match="can never be granted"):
        Policy(allow_globals=(name,))


@pytest.mark.parametrize(
    "name",
    [
        "collections._sys.exit",
        "random._os.system",
        "logging.os.system",
        "mypkg.os.system",
        "mypkg.util.subprocess.run",
        "mypkg.Config.__init__.__globals__",
        "mypkg.Config.__class__",
        "__main__.os.system",
        "torch.nn.functional.importlib.import_module",
    ],
)
def test_a_denied_module_is_denied_through_any_other(name: str) -> None:
    """find_class walks dots, so a re-exported module is the module."""
    assert denied_reason(name)


@pytest.mark.parametrize(
    "name", ["", "eval", "a.", ".a", "a..b", "a.*", "os.syst?m", "a.b\nc.d", "a.b ", "\u0430.b", "a.b" * 1000, "a-b.c", "[a].b"]
)
def test_what_is_not_one_exact_name_cannot_be_granted(name: str) -> None:
    """Patterns grant what nobody has seen, and look-alike letters grant what nobody meant."""
    assert denied_reason(name)
    assert "\n" not in denied_reason(name)  # type: ignore[operator]


@pytest.mark.parametrize(
    "name",
    """
    argparse.Namespace __main__.Config omegaconf.dictconfig.DictConfig collections.defaultdict types.SimpleNamespace
    builtins.set builtins.ValueError torch.nn.modules.linear.Linear torch.optim.adam.Adam mypkg.types.Config
    mypkg.code.Tokens mypkg.signal.Filter numpy.random.mtrand.RandomState sklearn.tree._classes.DecisionTreeClassifier
    transformers.training_args.TrainingArguments io.BytesIO pathlib.PosixPath datetime.datetime mypkg.Outer.Inner
    fairseq.data.dictionary.Dictionary _io.BytesIO torch.utils.data.dataset.TensorDataset torch.utils.data.sampler.RandomSampler
    torch.distributed.checkpoint.metadata.Metadata
    """.split(),  # noqa: SIM905 — a table for people
)
def test_ordinary_classes_can_be_granted(name: str) -> None:
    """A list that refuses what people need would be worked around."""
    assert denied_reason(name) is None
    assert Policy(allow_globals=(name,)).allow_globals == (name,)


def test_every_denied_name_says_why() -> None:
    assert len(DENIED) > 300
    assert all(denied_reason(f"{name}.x") for name in DENIED)
    assert all(reason == reason.strip() and reason[0].islower() and not reason.endswith(".") for reason in DENIED.values())


# ---- decisions


def test_nothing_found_is_allowed() -> None:
    decision = decide(report(), Policy())
    assert (decision.outcome, decision.reasons, decision.refused_globals) == (Outcome.ALLOWED, (), ())


def test_notes_never_refuse() -> None:
    assert decide(report(finding("SL130", Level.NOTE)), Policy()).outcome is Outcome.ALLOWED


@pytest.mark.parametrize("level", [Level.ERROR, Level.WARNING])
def test_errors_and_warnings_refuse(level: Level) -> None:
    decision = decide(report(finding("SL104", level, message="calls x")), Policy())
    assert decision.outcome is Outcome.REFUSED
    assert decision.reasons == ("calls x [SL104]",)


def test_a_finding_refuses_even_if_reading_broke_off_after_it() -> None:
    """The payload runs before the stream breaks: "could not read" must not hide it."""
    decision = decide(report(finding("SL101", Level.ERROR), error="stream ends at byte 7"), Policy())
    assert decision.outcome is Outcome.REFUSED
    assert decision.reasons[-1] == "reading ended early: stream ends at byte 7"


def test_no_verdict_is_an_error_and_never_allowed() -> None:
    assert decide(report(error="cannot be read"), Policy()).outcome is Outcome.ERROR
    assert decide(report(finding("SL501", Level.ERROR), error="an HTML page"), Policy()).outcome is Outcome.ERROR
    assert decide(report(finding("SL503", Level.ERROR)), Policy()).outcome is Outcome.ERROR
    assert decide(report(finding("SL502", Level.ERROR), finding("SL101", Level.ERROR)), Policy()).outcome is Outcome.REFUSED


def test_a_granted_global_does_not_refuse() -> None:
    seen = report(finding("SL103", subject="argparse.Namespace"), unmodelled=("argparse.Namespace",))
    assert decide(seen, Policy()).outcome is Outcome.REFUSED
    assert decide(seen, Policy(allow_globals=("argparse.Namespace",))).outcome is Outcome.ALLOWED
    assert decide(seen, Policy(), pin_grants=frozenset({"argparse.Namespace"})).outcome is Outcome.ALLOWED
    assert decide(seen, Policy(allow_globals=("argparse.Other",))).outcome is Outcome.REFUSED


def test_a_grant_from_a_pin_cannot_name_what_is_denied() -> None:
    """The lock may have been edited by somebody else."""
    seen = report(finding("SL103", subject="os.system"), unmodelled=("os.system",))
    assert decide(seen, Policy(), pin_grants=frozenset({"os.system"})).outcome is Outcome.REFUSED


@pytest.mark.parametrize("rule", ["SL101", "SL102", "SL104", "SL108"])
def test_a_grant_covers_naming_a_global_and_nothing_else(rule: str) -> None:
    """Evidence of danger about a granted global still refuses."""
    seen = report(finding(rule, Level.ERROR, "mypkg.Config"))
    assert decide(seen, Policy(allow_globals=("mypkg.Config",))).outcome is Outcome.REFUSED


def test_unmodelled_globals_refuse_even_when_their_findings_were_cut_off() -> None:
    """Limits bound the findings that are kept; the verdict may not depend on that."""
    decision = decide(report(unmodelled=("a.b", "c.d")), Policy(allow_globals=("c.d",)))
    assert decision.outcome is Outcome.REFUSED
    assert decision.refused_globals == ("a.b",)


def test_refused_globals_come_once_and_in_stream_order() -> None:
    """The message lists all of them at once, as the file has them."""
    names = ["z.z", "os.system", "a.a", "z.z"]
    found = [
        finding("SL101" if name == "os.system" else "SL103", Level.ERROR if name == "os.system" else Level.WARNING, name) for name in names
    ]
    decision = decide(report(*found, unmodelled=("z.z", "a.a", "b.b")), Policy())
    assert decision.refused_globals == ("z.z", "os.system", "a.a", "b.b")


def test_reasons_are_worst_first_once_and_bounded() -> None:
    found = [finding("SL103", subject=f"a.x{index}", message=f"w{index}") for index in range(500)]
    decision = decide(report(*found, finding("SL101", Level.ERROR, message="bad"), finding("SL101", Level.ERROR, message="bad")), Policy())
    assert decision.reasons[0] == "bad [SL101]"
    assert decision.reasons.count("bad [SL101]") == 1
    assert len(decision.reasons) == 101
    assert decision.reasons[-1] == "and 401 more"


def test_inert_loads_pass_over_what_will_not_be_called() -> None:
    """unknown="inert" turns dangerous globals into data; a forged container stays refused."""
    seen = report(finding("SL101", Level.ERROR, "os.system"), finding("SL103", subject="a.b"), unmodelled=("a.b",))
    decision = decide(seen, Policy(), inert=True)
    assert (decision.outcome, decision.refused_globals) == (Outcome.ALLOWED, ())
    assert decide(seen, Policy(unknown_globals="inert")).outcome is Outcome.REFUSED
    assert decide(report(*seen.findings, finding("SL202", Level.ERROR)), Policy(), inert=True).outcome is Outcome.REFUSED


# ---- unpinned


@pytest.mark.parametrize(
    ("unpinned", "lock", "want"),
    [
        (None, True, Outcome.REFUSED),
        (None, False, Outcome.ALLOWED),
        ("refuse", False, Outcome.REFUSED),
        ("warn", True, Outcome.ALLOWED),
        ("allow", True, Outcome.ALLOWED),
    ],
)
def test_unpinned_follows_policy_and_by_default_the_lock(unpinned: str | None, lock: bool, want: Outcome) -> None:
    """Refuse when a lockfile is in force, warn when none is."""
    policy = parse_policy({} if unpinned is None else {"unpinned": unpinned})
    extra = unpinned_finding(policy, lock_in_force=lock)
    assert (extra is None) == (unpinned == "allow")
    seen = report(*([extra] if extra else []))
    assert decide(seen, policy).outcome is want
    assert decide(seen, policy, pinned=True).outcome is Outcome.ALLOWED


# ---- suppressions


def suppressing(**values: str) -> Policy:
    entry = {"rule": "SL103", "reason": "seen", "expires": dt.date(2030, 1, 31), "path": "m.pt", **values}
    return parse_policy({"suppress": [{key: value for key, value in entry.items() if value}]})


def test_a_suppression_hides_its_finding_from_a_scan_and_says_so() -> None:
    seen = report(finding("SL103", subject="a.b"), unmodelled=("a.b",))
    decision = decide(seen, suppressing(), today=DAY)
    assert decision.outcome is Outcome.ALLOWED
    assert decision.reasons == ("suppressed until 2030-01-31: SL103 for m.pt: seen",)


def test_a_suppression_never_permits_a_load() -> None:
    """A load does not tell the date; and even a scan's decision keeps the list of what stands in the way."""
    seen = report(finding("SL103", subject="a.b"), finding("SL101", Level.ERROR, "os.system"), unmodelled=("a.b",))
    assert decide(seen, suppressing()).outcome is Outcome.REFUSED
    assert decide(seen, suppressing(), today=DAY).outcome is Outcome.REFUSED
    hidden = decide(report(finding("SL103", subject="a.b"), unmodelled=("a.b",)), suppressing(), today=DAY)
    assert hidden.refused_globals == ("a.b",)


def test_a_suppression_ends_after_its_last_day() -> None:
    seen = report(finding("SL103", subject="a.b"))
    assert decide(seen, suppressing(), today=dt.date(2030, 1, 31)).outcome is Outcome.ALLOWED
    late = decide(seen, suppressing(), today=dt.date(2030, 2, 1))
    assert late.outcome is Outcome.REFUSED
    assert late.reasons[-1] == "the suppression of SL103 for m.pt expired on 2030-01-31: seen"


def test_a_suppression_by_digest_needs_that_digest() -> None:
    """Not hashed is not known."""
    policy = suppressing(path="", sha256=DIGEST)
    assert decide(report(finding("SL103"), sha256=DIGEST), policy, today=DAY).outcome is Outcome.ALLOWED
    for other in (None, "cd" * 32):
        assert decide(report(finding("SL103"), sha256=other), policy, today=DAY).outcome is Outcome.REFUSED


@pytest.mark.parametrize(
    ("pattern", "path", "want"),
    [
        ("models/*.pt", "./models/a.pt", True),
        ("models/*.pt", "models/x/../a.pt", True),
        ("models/*.pt", "models/x/a.pt", False),
        ("models/**", "models/x/a.pt", True),
        ("models/*.pt", "/repo/models/a.pt", True),
        ("models/*.pt", "/other/models/a.pt", False),
        ("a.pt", "models/a.pt", False),
    ],
)
def test_a_suppression_by_path_is_no_wider_than_it_reads(pattern: str, path: str, want: bool) -> None:
    entry = Suppression(rule="SL103", reason="r", expires=DAY, path=pattern)
    assert entry.covers(report(path=path), "/repo") is want


def test_a_suppression_cannot_turn_an_unread_file_into_an_allowed_one() -> None:
    policy = parse_policy({"suppress": [{"rule": "SL502", "reason": "r", "expires": DAY, "path": "m.pt"}]})
    assert decide(report(finding("SL502", Level.ERROR), error="ends early"), policy, today=DAY).outcome is Outcome.ERROR


# ---- rules and signers


@pytest.mark.parametrize(
    ("pattern", "text", "want"),
    [
        ("acme/*", "acme/m", True),
        ("acme/*", "acme/m/v1", False),
        ("acme/**", "acme/m/v1", True),
        ("acme/**", "acme", True),
        ("**", "a/b/c", True),
        ("**/c", "c", True),
        ("a/**/c", "a/c", True),
        ("a/**/c", "a/x/y/c", True),
        ("a/**/c", "b/c", False),
        ("a/**/c", "a/x", False),
        ("*", "a", True),
        ("*", "a/b", False),
        ("a", "A", False),
        ("a?", "ab", True),
        ("[ab]*", "bx", True),
        ("", "", True),
        ("a", "", False),
    ],
)
def test_globs(pattern: str, text: str, want: bool) -> None:
    assert glob_match(pattern, text) is want


def test_a_hostile_name_cannot_make_matching_slow() -> None:
    """Names come from lockfiles and repositories; backtracking would be a way to hang."""
    assert not glob_match("/".join(["**", "a*a*a*a*b"] * 20), "/".join(["a" * 200] * 200))


def test_the_last_matching_rule_overrides_and_demands_add_up() -> None:
    policy = Policy(
        allow_globals=("a.b",),
        rules=(
            Rule(models="acme/*", signers=SignerRule(all=("release",)), allow_globals=("c.d",), verify="cached"),
            Rule(models="acme/big", signers=SignerRule(any=("x", "y")), verify="always", unpinned="allow"),
            Rule(models="other/*", signature="off", allow_globals=("e.f",)),
        ),
    )
    held = policy.for_model("acme/big")
    assert (held.allow_globals, held.verify, held.unpinned, held.signature) == (("a.b", "c.d"), "always", "allow", "require")
    assert held.signers == (SignerRule(all=("release",)), SignerRule(any=("x", "y")))
    assert policy.for_model(None) == Policy(allow_globals=("a.b",))
    assert policy.for_model("nobody/m").signers == ()


def test_a_demand_is_met_by_verified_signers_only() -> None:
    both = SignerRule(all=("a", "b"))
    one = SignerRule(any=("a", "b"))
    assert both.met_by(frozenset("abc"))
    assert not both.met_by(frozenset("a"))
    assert one.met_by(frozenset("b"))
    assert not one.met_by(frozenset("c"))
    assert not one.met_by(frozenset())
    assert not SignerRule(all=("a",), any=("b",)).met_by(frozenset("a"))


def test_policy_insists_even_when_the_lock_no_longer_does() -> None:
    """An editor of the lock could drop `require`."""
    held = Policy(rules=(Rule(models="acme/*", signers=SignerRule(all=("release",))),)).for_model("acme/m")
    assert signer_reasons(held, frozenset()) == ("signatures of all of release are required; verified: none",)
    assert signer_reasons(held, frozenset({"release"})) == ()
    assert signer_reasons(Policy(signature="require"), frozenset()) == ("policy wants a signature, and none was verified",)
    assert signer_reasons(Policy(signature="require"), frozenset(), SignerRule(all=("x",)))
    assert signer_reasons(Policy(signature="off"), frozenset(), SignerRule(all=("x",))) == ()
    assert signer_reasons(Policy(), frozenset()) == ()
    assert signer_reasons(Policy(), frozenset(), SignerRule(all=("x",))), "what the lockfile requires counts without a policy"


# ---- snippets


def test_a_snippet_is_a_policy_that_grants_what_may_be_granted() -> None:
    """It is pasted as it is, so it must be valid and must not contain what would be refused."""
    text = snippet(["b.C", "os.system", "a.B", "b.C", 'x"\n[evil]\ny.z'])
    assert tomllib.loads(text) == {"tool": {"safeload": {"allow-globals": ["b.C", "a.B"]}}}
    assert "# os.system: can never be granted: lies in os" in text
    assert parse_policy(tomllib.loads(text)["tool"]["safeload"]).allow_globals == ("b.C", "a.B")


def test_a_snippet_without_anything_to_grant_is_only_comment() -> None:
    assert tomllib.loads(snippet(["os.system"])) == {}
    assert snippet([]) == ""


def test_the_page_shows_a_policy_that_is_valid() -> None:
    """docs/policy.md is copied from."""
    page = Path(__file__).parents[2] / "docs" / "policy.md"
    blocks = re.findall(r"^```toml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    policy = parse_policy(tomllib.loads("\n".join(blocks))["tool"]["safeload"])
    assert (len(policy.rules), len(policy.suppress), policy.unpinned) == (2, 1, "refuse")


def test_functions_of_tensors_can_be_granted_where_torch_keeps_them() -> None:
    """A module that holds `torch.tanh` or a GELU is pickled with a name inside torch._C; what reads files is there, too."""
    for name in ("tanh", "sigmoid", "relu"):
        assert denied_reason(f"torch._C._VariableFunctionsClass.{name}") is None
    assert denied_reason("torch._C._VariableFunctionsClass") is None
    assert denied_reason("torch._C._nn.gelu") is None
    for name in (
        "torch._C._VariableFunctionsClass.from_file", "torch._C._VariableFunctions.from_file", "torch._C._nn.load", "torch._C._nn",
        "torch._C._VariableFunctionsClass.__init__", "torch._C._VariableFunctionsClass.tanh.__call__", "torch._C.PyTorchFileReader",
        "torch._C._nn.os.system", "torch._C._nn.os", "torch._C._import_ir_module",
    ):  # fmt: skip
        assert denied_reason(name) is not None, name

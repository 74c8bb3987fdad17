"""Lockfile, policy and digests hold for everything hypothesis can think of."""

from __future__ import annotations

import copy
import datetime as dt
import hashlib
import tomllib
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeload.errors import LockfileError, PolicyError, SafeloadError, SafeloadWarning
from safeload.findings import Finding, Level, Outcome, Report
from safeload.lockfile import (
    Converted,
    LockedFile,
    Lockfile,
    Model,
    ModelSource,
    SignatureRef,
    Signer,
    TrustRoot,
    dumps,
    loads,
    parse,
    path_problem,
)
from safeload.policy import Policy, SignerRule, decide, denied_reason, glob_match, parse_policy, snippet
from safeload.rules import RULES
from safeload.toml_table import toml_string
from safeload.trust.digest import TreeHasher

SHA = st.text("0123456789abcdef", min_size=64, max_size=64)
COMMIT = st.text("0123456789abcdef", min_size=40, max_size=40)
PRINTED = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=20)
NAME = PRINTED.filter(str.isprintable)
PATH = st.lists(PRINTED, min_size=1, max_size=4).map("/".join).filter(lambda path: path_problem(path) is None)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
GRANT = st.sampled_from(["argparse.Namespace", "mypkg.Config", "a.b.C", "__main__.Args"])
FORMAT = st.sampled_from(["torch-zip", "pickle", "safetensors", "torch-legacy"])


@st.composite
def locks(draw: st.DrawFn) -> Lockfile:
    """Draw any valid lock."""
    paths = iter(draw(st.lists(PATH, min_size=12, max_size=12, unique=True)))
    roots = [
        TrustRoot(name=name, kind="sigstore", path=draw(st.sampled_from(["builtin:x", "keys/root.json"])), sha256=draw(SHA))
        for name in draw(st.lists(NAME, max_size=2, unique=True))
    ]
    signers = [_signer(draw, name, roots) for name in draw(st.lists(NAME, max_size=3, unique=True))]
    names = [signer.name for signer in signers]
    models = [_model(draw, name, names, paths) for name in draw(st.lists(PRINTED, max_size=3, unique=True))]
    return Lockfile(created_by=draw(PRINTED), trust_roots=tuple(roots), signers=tuple(signers), models=tuple(models))


def _signer(draw: st.DrawFn, name: str, roots: list[TrustRoot]) -> Signer:
    kind = draw(st.sampled_from(["sigstore", "openpgp", "key", "x509"] if roots else ["openpgp", "key", "x509"]))
    if kind == "sigstore":
        identity = draw(PRINTED.filter(lambda text: "*" not in text))
        return Signer(name=name, kind="sigstore", trust_root=draw(st.sampled_from(roots)).name, issuer=draw(PRINTED), identity=identity)
    if kind == "openpgp":
        return Signer(name=name, kind="openpgp", fingerprint=draw(COMMIT), certificate=draw(PATH), certificate_sha256=draw(SHA))
    if kind == "key":
        return Signer(name=name, kind="key", public_key=draw(PATH), public_key_sha256=draw(SHA))
    return Signer(name=name, kind="x509", certificate=draw(PATH), certificate_sha256=draw(SHA), subject=draw(PRINTED))


def _model(draw: st.DrawFn, name: str, signers: list[str], paths: Any) -> Model:
    files = []
    for _ in range(draw(st.integers(1, 2))):
        converted = Converted(path=next(paths), sha256=draw(SHA), sha256_tree=draw(st.none() | SHA)) if draw(st.booleans()) else None
        files.append(
            LockedFile(
                path=next(paths),
                size=draw(st.integers(0, (1 << 63) - 1)),
                sha256=draw(SHA),
                sha256_tree=draw(st.none() | SHA),
                format=draw(st.none() | FORMAT),
                globals=draw(st.none() | st.lists(ANY_TEXT, max_size=4).map(tuple)),
                allow_globals=draw(st.lists(GRANT, max_size=3).map(tuple)),
                converted=converted,
            )
        )
    some = st.lists(st.sampled_from(signers), min_size=1, unique=True).map(tuple) if signers else st.nothing()
    require = draw(st.none() | st.builds(SignerRule, all=some) | st.builds(SignerRule, any=some, all=some)) if signers else None
    source = st.builds(
        ModelSource, kind=st.sampled_from(["huggingface", "git"]), repo=PRINTED, requested=st.none() | PRINTED, revision=COMMIT
    )
    kind = st.sampled_from(["sigstore-blob", "oms", "git-commit"])
    refs = st.builds(SignatureRef, signer=st.sampled_from(signers), kind=kind, bundle=PATH, bundle_sha256=SHA) if signers else st.nothing()
    return Model(
        name=name,
        files=tuple(files),
        complete=draw(st.booleans()),
        require=require,
        source=draw(st.none() | source),
        signatures=tuple(draw(st.lists(refs, max_size=2, unique=True))) if signers else (),
    )


@given(locks())
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_back_and_written_alike(lock: Lockfile) -> None:
    """The same lock always gives the same bytes, and those bytes give the same lock."""
    text = dumps(lock)
    assert loads(text) == lock
    assert dumps(loads(text)) == text
    assert tomllib.loads(text)["lock-version"] == "1.0"


@given(locks(), st.data())
@settings(max_examples=40, deadline=None)
def test_no_truncation_is_read_as_a_smaller_lock(lock: Lockfile, data: st.DataObject) -> None:
    """A lost tail would unpin files without a word."""
    raw = dumps(lock).encode()
    cut = raw[: data.draw(st.integers(0, len(raw) - 2))]
    with pytest.raises(LockfileError):
        loads(cut)


@given(locks(), st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_bytes_give_a_lockfile_error_or_a_valid_lock(lock: Lockfile, data: st.DataObject) -> None:
    """No builtin exception leaves the reader, and whatever it accepts could be written again."""
    raw = bytearray(dumps(lock).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not raw:
            break
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SafeloadWarning)
        try:
            found = loads(bytes(raw))
        except LockfileError:
            return
    if found.version == "1.0":
        assert loads(dumps(found)) == found


VALUES = st.recursive(
    st.none().map(lambda _: "x") | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.dates() | st.datetimes() | st.times(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)


def _places(node: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, ...]] = []
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        inner += [(*path, key), *_places(value, (*path, key))]
    return inner


@given(locks(), VALUES, st.data())
@settings(max_examples=80, deadline=None)
def test_any_value_of_any_type_in_any_place_is_checked(lock: Lockfile, value: object, data: st.DataObject) -> None:
    """Every key has a type, every reference a target: nothing reaches a caller unchecked."""
    document = copy.deepcopy(tomllib.loads(dumps(lock)))
    *way, last = data.draw(st.sampled_from(_places(document)))
    node: Any = document
    for key in way:
        node = node[key]
    if data.draw(st.booleans()) and isinstance(node, dict):
        node[data.draw(ANY_TEXT)] = value
    else:
        node[last] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SafeloadWarning)
        try:
            found = parse(document)
        except LockfileError:
            return
    if found.version == "1.0":
        assert loads(dumps(found)) == found


@given(
    st.dictionaries(
        st.sampled_from(["unpinned", "signature", "allow-globals", "rule", "suppress", "verify", "x"]) | ANY_TEXT, VALUES, max_size=4
    )
)
@settings(max_examples=80, deadline=None)
def test_any_policy_is_a_policy_or_a_policy_error(keys: dict[str, Any]) -> None:
    try:
        policy = parse_policy(keys)
    except PolicyError:
        return
    assert not [name for name in policy.allow_globals if denied_reason(name)]


@given(st.text())
@settings(max_examples=60, deadline=None)
def test_a_written_string_is_read_back(text: str) -> None:
    """Quotes, controls, bidi marks: all of them come from files."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        return
    written = toml_string(text)
    assert tomllib.loads(f"x = {written}")["x"] == text
    assert "\n" not in written
    assert written.isprintable()


@given(st.lists(st.text(max_size=40), max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_snippet_of_any_names_is_a_valid_policy(names: list[str]) -> None:
    """Names come from hostile files and the snippet is pasted."""
    text = snippet(names)
    if any("\ud800" <= char <= "\udfff" for char in text):
        pytest.fail("a surrogate was not escaped")
    keys = tomllib.loads(text).get("tool", {}).get("safeload", {})
    assert set(parse_policy(keys).allow_globals) <= set(names)


FINDINGS = st.builds(
    Finding,
    rule=st.sampled_from(sorted(RULES)),
    level=st.sampled_from(Level),
    message=st.just("m"),
    subject=st.none() | st.sampled_from(["os.system", "a.B", "c.D"]),
)
REPORTS = st.builds(
    Report,
    path=st.just("m.pt"),
    format=st.just("pickle"),
    findings=st.lists(FINDINGS, max_size=5).map(tuple),
    unmodelled=st.lists(st.sampled_from(["os.system", "a.B", "c.D"]), unique=True).map(tuple),
    error=st.none() | st.just("broke"),
)


@given(REPORTS, st.frozensets(st.sampled_from(["a.B", "c.D", "os.system"])))
@settings(max_examples=60, deadline=None)
def test_a_load_is_allowed_only_when_nothing_stands_against_it(report: Report, grants: frozenset[str]) -> None:
    """The statement of decide(), written once more from the other side."""
    decision = decide(report, Policy(), pin_grants=grants)
    held = grants - {"os.system"}
    against = [f for f in report.findings if f.level is not Level.NOTE and not (f.rule == "SL103" and f.subject in held)]
    free = report.error is None and not against and not set(report.unmodelled) - held
    assert (decision.outcome is Outcome.ALLOWED) == free
    if decision.outcome is Outcome.ALLOWED:
        assert not decision.refused_globals
    assert len(set(decision.refused_globals)) == len(decision.refused_globals)


@given(REPORTS, st.sampled_from(sorted(RULES)), st.dates())
@settings(max_examples=60, deadline=None)
def test_no_suppression_makes_a_load_possible(report: Report, rule: str, expires: dt.date) -> None:
    """A suppression is about what a scan shows."""
    policy = parse_policy({"suppress": [{"rule": rule, "path": "**", "reason": "r", "expires": expires}]})
    assert decide(report, policy) == decide(report, Policy())
    if decide(report, policy, today=dt.date(2030, 1, 1)).outcome is Outcome.ALLOWED:
        assert report.error is None


@given(st.lists(st.binary(max_size=100), max_size=8))
@settings(max_examples=60, deadline=None)
def test_a_tree_does_not_depend_on_the_pieces(pieces: list[bytes]) -> None:
    hasher = TreeHasher()
    for piece in pieces:
        hasher.update(piece)
    data = b"".join(pieces)
    leaves = hashlib.sha256(data).digest() if data else b""
    head = b"safeload sha256-tree v1\n" + (4 << 20).to_bytes(8, "little") + len(data).to_bytes(8, "little")
    assert hasher.hexdigest() == hashlib.sha256(head + leaves).hexdigest()


@given(st.text("ab*?/[]!", max_size=12), st.text("ab/", max_size=12))
@settings(max_examples=60, deadline=None)
def test_globs_end_and_two_stars_match_everything(pattern: str, text: str) -> None:
    assert glob_match(pattern, text) in (True, False)
    assert glob_match("**", text)
    if not set("*?[") & set(pattern):
        assert glob_match(pattern, text) == (pattern == text)


@given(st.text())
@settings(max_examples=60, deadline=None)
def test_reasons_never_carry_what_the_name_carries(name: str) -> None:
    """The reason is printed; the name is hostile."""
    reason = denied_reason(name)
    assert reason is None or (reason.isprintable() and issubclass(PolicyError, SafeloadError))

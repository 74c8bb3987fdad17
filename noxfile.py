"""The project's sessions: `./run` lists them, `./run tests lint` runs two, `./run tests -- -k zip` passes options on.

Sessions that need torch share one environment in `.nox/shared`, because torch is large and lint, types and tests want
the same packages. It is refreshed when pyproject.toml, constraints.txt or the machine's source change.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "venv"
nox.options.sessions = ["tests", "lint", "types", "layers"]

ROOT: Final = Path(__file__).parent
CONSTRAINTS: Final = ROOT / "constraints.txt"
SHARED: Final = ROOT / ".nox" / "shared"
PROGRAMS: Final = ROOT / ".nox" / "programs"
LIBRARIES: Final = ROOT / ".nox" / "libraries"
BIN: Final = SHARED / ("Scripts" if os.name == "nt" else "bin")
PYTHON: Final = str(BIN / "python")
PYPROJECT: Final = nox.project.load_toml("pyproject.toml")
# The scanners that the scan benchmarks compare with; tests never see them.
PEERS: Final = ("picklescan==1.0.5", "modelscan==0.8.8", "fickling==0.1.12", "modelaudit==0.2.54")
FUZZ_STREAMS: Final = 100_000
# Python keeps what it compiled, whatever the caller's environment says: tests start many processes that import all of safeload.
KEPT: Final = {"PYTHONDONTWRITEBYTECODE": ""}
# What decides whether the shared environment is still the right one.
INGREDIENTS: Final = (
    "pyproject.toml", "constraints.txt", "safeload/walk/_machine.py", "safeload/walk/_machine.pxd", "safeload/hashing/_lanes.c",
    "safeload/hashing/_fingerprint.c", "safeload/hashing/_crc.c", "safeload/conversion/_gather.c",
    "safeload/formats/_plain_zip.py", "safeload/formats/_plain_zip.pxd",
)  # fmt: skip
EXTENSIONS: Final = (
    "walk/_machine_c", "hashing/_lanes_c", "hashing/_fingerprint_c", "hashing/_crc_c", "conversion/_gather_c", "formats/_plain_zip_c",
)  # fmt: skip
# Tests of the walker and of what hangs on its verdict: these run again on the uncompiled machine.
WALKER_TESTS: Final = ("tests/unit/test_walk*.py", "tests/unit/test_machine*.py", "tests/property", "tests/attacks")
# Compiling as users do takes a minute of a core for each Python. `shared` and `wheel` do; the sessions that test what is around the
# machine, or only another Python, take the same source with less optimisation, in a third of the time.
COMPILED_SOON: Final = {"CFLAGS": "-O1 -g0"}


def group(*names: str) -> tuple[str, ...]:
    """Return the requirements of dependency groups of pyproject.toml; pip learnt to read them only lately."""
    return tuple(nox.project.dependency_groups(PYPROJECT, *names))


def shared(session: nox.Session) -> None:
    """Bring the shared environment up to date: safeload compiled and editable, torch, and every tool."""
    # never a range of torch without the constraint: some indexes answer one with gigabytes of CUDA libraries
    wanted = ["-e", ".", "torch==2.13.0", *group("test", "lint", "writers", "readers")]
    fresh(session, SHARED, [wanted], CONSTRAINTS)


def programs(session: nox.Session) -> str:
    """Bring the environment of tests/real/programs up to date, about 6 GB: torchvision wants a torch of its own. Returns its Python."""
    needs = ROOT / "tests" / "real" / "programs" / "requirements.txt"
    packages = ["torchcrepe==0.0.24", "lpips==0.1.4", "facenet-pytorch==2.6.0", "Resemblyzer==0.1.4", "chgnet==0.4.2", "torchaudio==2.11.0"]
    return fresh(session, PROGRAMS, [["-r", str(needs)], ["--no-deps", *packages], ["-e", "."]], needs)


def libraries(session: nox.Session) -> str:
    """Bring the environment of tests/real/libraries up to date, 130 MB beside torch's own size. Returns its Python."""
    packages = ("transformers==5.24.0", "accelerate==1.15.0", "diffusers==0.42.1", "peft==0.21.2", "pytorch-ignite==0.5.5")
    wanted = ["-e", ".", "torch==2.13.0", *packages, "fvcore==0.1.5.post20221221"]
    return fresh(session, LIBRARIES, [wanted], CONSTRAINTS)


def fresh(session: nox.Session, where: Path, installs: list[list[str]], constraints: Path) -> str:
    """Make an environment, unless it is there and nothing that it is made from has changed. Returns its Python."""
    recipe = hashlib.sha256(f"{sys.version}{installs}".encode())
    for path in (constraints, *(ROOT / name for name in INGREDIENTS)):
        recipe.update(path.read_bytes() if path.is_file() else b"missing")
    stamp = where / "recipe"
    found = str(where / BIN.name / "python")
    if stamp.is_file() and stamp.read_text() == recipe.hexdigest():
        return found
    if not Path(found).exists():
        session.run(sys.executable, "-m", "venv", "--clear", str(where), external=True)
    stamp.unlink(missing_ok=True)
    for wanted in installs:
        # --no-compile: of packages as large as torch and transformers, only what is imported is worth the time
        session.run(found, "-m", "pip", "--quiet", "install", "--no-compile", *wanted, external=True, env=_pip_env(constraints))
    stamp.write_text(recipe.hexdigest())
    return found


def pip(session: nox.Session, *args: str) -> None:
    """Run the shared environment's pip under the constraints, which hold for build requirements too."""
    session.run(PYTHON, "-m", "pip", "--quiet", *args, external=True, env=_pip_env())


def python(session: nox.Session, *args: str, env: Mapping[str, str] | None = None) -> None:
    """Run the shared environment's Python from the repository root."""
    session.run(PYTHON, *args, external=True, env={**KEPT, **(env or {})})


def compiled(session: nox.Session) -> bool:
    """Whether the extension was built here; without a compiler it is not, and in CI that is a failure."""
    probe = "import importlib.util, sys; sys.exit(importlib.util.find_spec('safeload.walk._machine_c') is None)"
    built = subprocess.run([PYTHON, "-c", probe], cwd=ROOT, check=False).returncode == 0
    if not built:
        text = "the compiled machine was not built: no C compiler, or it failed"
        if os.environ.get("CI"):
            session.error(text)
        session.warn(f"{text}; the tests run on the pure machine alone")
    return built


def existing(patterns: tuple[str, ...]) -> list[str]:
    """Return the paths under the root that match, sorted."""
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))


@nox.session(python=False)
def demo(session: nox.Session) -> None:
    """Show a checkpoint locked and loaded, a tampered and a hostile one refused, and a conversion."""
    shared(session)
    python(session, "-m", "safeload", "demo", *session.posargs)


@nox.session(python=False)
def tests(session: nox.Session) -> None:
    """Run all tests on the compiled machine, then the walker's on the pure one."""
    shared(session)
    if compiled(session):
        python(session, "-m", "pytest", *session.posargs, env={"SAFELOAD_MACHINE": "compiled"})
        if not session.posargs:
            python(session, "-m", "pytest", *existing(WALKER_TESTS), env={"SAFELOAD_MACHINE": "pure"})
    else:
        python(session, "-m", "pytest", *session.posargs, env={"SAFELOAD_MACHINE": "pure"})


@nox.session(python=False)
def lint(session: nox.Session) -> None:
    """Check style and known mistakes with ruff."""
    shared(session)
    python(session, "-m", "ruff", "check", *session.posargs)


@nox.session(python=False)
def types(session: nox.Session) -> None:
    """Check types with mypy, strictly."""
    shared(session)
    python(session, "-m", "mypy", *session.posargs)


@nox.session(python=False)
def layers(session: nox.Session) -> None:
    """Check with import-linter that imports go downward and that judges cannot build or run."""
    shared(session)
    session.run(str(BIN / "lint-imports"), external=True)


@nox.session(python=False)
def docs(session: nox.Session) -> None:
    """Run the code blocks of README.md and docs/."""
    shared(session)
    python(session, "-m", "pytest", "tests/unit/test_docs.py", *session.posargs)


@nox.session(python=False)
def fuzz(session: nox.Session) -> None:
    """Compare both machines, and hold the promises about errors, over many mutated streams."""
    shared(session)
    compiled(session)
    streams = os.environ.get("SAFELOAD_FUZZ", str(FUZZ_STREAMS))
    paths = [path for path in existing(("tests/**/test_*.py",)) if "fuzz" in path or "def test_fuzz" in Path(ROOT, path).read_text()]
    python(session, "-m", "pytest", *paths, "-k", "fuzz", *session.posargs, env={"SAFELOAD_FUZZ": streams})


@nox.session(python=False)
def real(session: nox.Session) -> None:
    """Fetch published packages; load, compare and convert the model files in them, and let their own code load them under safeload."""
    shared(session)
    with tempfile.TemporaryDirectory(prefix="safeload-real-") as scratch:
        where = os.environ.get("SAFELOAD_REAL_DIR", scratch)
        env = {"SAFELOAD_REAL_DIR": where, "SAFELOAD_REAL": "1", "SAFELOAD_PROGRAMS": programs(session)}
        env["SAFELOAD_LIBRARIES"] = libraries(session)
        python(session, "-m", "pytest", "tests/real", *session.posargs, env=env)


@nox.session(python=False)
def bench(session: nox.Session) -> None:
    """Run the benchmarks, or those that are named: `./run bench -- bench_import`; `--full` for the published sizes and the table.

    `--check` compares with the committed ratios instead of writing them.
    """
    shared(session)
    names = [argument for argument in session.posargs if not argument.startswith("--")]
    full = ["--full"] if "--full" in session.posargs else []
    if full and not names:
        pip(session, "install", "matplotlib")
    lines = []
    chosen = [path for path in existing(("benchmarks/bench_*.py", "benchmarks/scan_*.py")) if not names or Path(path).stem in names]
    scanners = _scanners(session) if any(Path(path).stem.startswith("scan_") for path in chosen) else {}
    for path in chosen:
        takes = [] if Path(path).stem == "bench_import" else full
        found = session.run(PYTHON, path, *takes, external=True, silent=True, env=scanners)
        lines.append(str(found))
        session.log(str(found).strip())
    if names or not (full or "--check" in session.posargs):
        return
    with tempfile.TemporaryDirectory(prefix="safeload-bench-") as scratch:
        results = Path(scratch, "results.jsonl")
        results.write_text("\n".join(lines))
        python(session, "benchmarks/table.py", str(results), *(["--check"] if "--check" in session.posargs else []))


def _scanners(session: nox.Session) -> dict[str, str]:
    """Environments for the scan benchmarks: one with the other scanners, one with safeload as a user installs it."""
    peers, ours = ROOT / ".nox" / "peers", ROOT / ".nox" / "ours"
    for place, wanted in ((peers, PEERS), (ours, ())):
        if not (place / BIN.name / "python").exists():
            session.run(sys.executable, "-m", "venv", "--clear", str(place), external=True)
        if wanted:
            session.run(str(place / BIN.name / "python"), "-m", "pip", "--quiet", "install", *wanted, external=True)
    with tempfile.TemporaryDirectory(prefix="safeload-bench-") as scratch:
        tree = _copy_of_tree(Path(scratch, "tree"))
        install = ("-m", "pip", "--quiet", "install", "--force-reinstall", "--no-deps", str(tree))
        session.run(str(ours / BIN.name / "python"), "-m", "pip", "--quiet", "install", str(tree), external=True, env=_pip_env())
        session.run(str(ours / BIN.name / "python"), *install, external=True, env=_pip_env())
    return {"SAFELOAD_BENCH_PEERS": str(peers / BIN.name), "SAFELOAD_BENCH_PYTHON": str(ours / BIN.name / "python")}


def _copy_of_tree(into: Path) -> Path:
    """Copy what is built from, without build outputs: those must not reach a wheel that is built now."""
    into.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, into / name)
    outputs = ("*.so", "*.pyd", "_machine*.c", "_plain_zip*.c", "__pycache__")
    shutil.copytree(ROOT / "safeload", into / "safeload", ignore=shutil.ignore_patterns(*outputs))
    return into


def _members(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def _pip_env(constraints: Path = CONSTRAINTS) -> dict[str, str]:
    """As environment variables the constraints reach isolated builds too."""
    return {"PIP_CONSTRAINT": str(constraints), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _package_data() -> set[str]:
    """Return the files of the package that are not code and that a wheel must carry."""
    endings = ("md", "toml", "json", "pxd", "pyi", "typed", "css", "js")
    return {path.relative_to(ROOT).as_posix() for ending in endings for path in ROOT.glob(f"safeload/**/*.{ending}")}


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel with a compiler and without one; each must be complete and work outside the source tree."""
    no_compiler = {"CC": "/bin/false", "CXX": "/bin/false"}
    with tempfile.TemporaryDirectory(prefix="safeload-wheel-") as scratch:
        for kind, extra in (("pure", no_compiler), ("compiled", {})):
            out = Path(scratch, f"{kind}-wheel")
            tree = _copy_of_tree(Path(scratch, kind))
            session.run("python", "-m", "pip", "--quiet", "wheel", "--no-deps", "-w", str(out), str(tree), env={**_pip_env(), **extra})
            built = next(out.glob("safeload-*.whl"))
            names = _members(built)
            for extension in EXTENSIONS:
                found = any(re.search(rf"safeload/{extension}\.[^/]*(so|pyd)$", name) for name in names)
                if found != (kind == "compiled"):
                    session.error(f"{built.name} ({kind}): {extension} is {'there' if found else 'missing'}")
            if missing := _package_data() - set(names):
                session.error(f"{built.name} lacks {sorted(missing)}")
            session.install("--quiet", "--no-compile", str(built), env=_pip_env())
            session.install("--quiet", "--no-compile", "--force-reinstall", "--no-deps", str(built), env=_pip_env())
            with session.chdir(scratch):
                session.run("python", "-I", str(ROOT / "tests" / "wheel_smoke.py"), kind)
            session.log(f"{built.name}: {kind}, {len(names)} members, {built.stat().st_size} bytes")


def interpreter(version: str) -> str | None:
    """Find a Python of that version that runs: a name on PATH may be a shim without anything behind it."""
    probe = "import sys; print('%d.%d' % sys.version_info[:2])"
    managed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"), reverse=True)
    for candidate in (f"python{version}", *map(str, managed)):
        try:
            done = subprocess.run([candidate, "-c", probe], capture_output=True, text=True, check=False)
        except OSError:
            continue
        if done.returncode == 0 and done.stdout.strip() == version:
            return candidate
    return None


def torch_free(session: nox.Session, constraints: Path) -> None:
    """Run what needs no torch where there is none: safeload as installed, tests and docs from a copy of the tree."""
    with tempfile.TemporaryDirectory(prefix="safeload-torchfree-") as scratch:
        # not editable: an extension for this Python would be left in the source tree, where the next session finds it
        tree = _copy_of_tree(Path(scratch, "tree"))
        session.install("--quiet", "--no-compile", str(tree), *group("test"), env={**_pip_env(constraints), **COMPILED_SOON})
        shutil.rmtree(tree)
        for name in ("tests", "docs"):
            shutil.copytree(ROOT / name, Path(scratch, name), ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md"):
            shutil.copy2(ROOT / name, scratch)
        with session.chdir(scratch):
            session.run("python", "-m", "pytest", *session.posargs, env=KEPT)


def _torch_free_on(version: str) -> None:
    """Make the session for one version of Python; where there is none it says so and is skipped."""
    found = interpreter(version)

    def run(session: nox.Session) -> None:
        if found is None:
            session.skip(f"there is no Python {version} on this machine")
        torch_free(session, CONSTRAINTS)

    run.__doc__ = f"Run the torch-free tests on Python {version}."
    nox.session(name=f"torchfree-{version}", python=found or False)(run)


for _version in ("3.11", "3.12", "3.13"):
    _torch_free_on(_version)


def _system_packages(session: nox.Session, needed: Mapping[str, str]) -> None:
    """Install what Debian has of the programs that are not there yet; without the right to, say what is missing."""
    places = f"{os.environ['PATH']}:/usr/sbin"
    missing = sorted({package for program, package in needed.items() if shutil.which(program, path=places) is None})
    if not missing:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        session.error(f"these programs are needed, and only root can install them: {', '.join(missing)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        session.run("apt-get", "update", "-qq", external=True, silent=True)
        session.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, external=True, silent=True, env=quiet)
    except nox.command.CommandFailed:
        session.error(f"these Debian packages are needed, and apt-get cannot install them: {', '.join(missing)}")


@nox.session
def services(session: nox.Session) -> None:
    """Read and scan through real servers on loopback: nginx, S3, a hub, a Dask cluster; and look at the report in a browser."""
    _system_packages(session, {"nginx": "nginx-light", "chromium": "chromium", "chromedriver": "chromium-driver"})
    with tempfile.TemporaryDirectory(prefix="safeload-services-") as scratch:
        # not editable, as in torch_free: the workers of a cluster import what is installed
        tree = _copy_of_tree(Path(scratch, "tree"))
        packages = (f"{tree}[remote,dask]", *group("services"))
        session.install("--quiet", "--no-compile", *packages, env={**_pip_env(), **COMPILED_SOON})
        shutil.rmtree(tree)
        shutil.copytree(ROOT / "tests", Path(scratch, "tests"), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(ROOT / "pyproject.toml", scratch)
        with session.chdir(scratch):
            session.run("python", "-m", "pytest", "tests/services", *session.posargs, env={**KEPT, "SAFELOAD_SERVICES": "1"})


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the torch-free tests with the oldest versions that pyproject.toml promises."""
    with tempfile.TemporaryDirectory(prefix="safeload-lowest-") as scratch:
        bounds = Path(scratch, "lowest.txt")
        bounds.write_text("".join(f"{requirement.replace('>=', '==')}\n" for requirement in PYPROJECT["project"]["dependencies"]))
        torch_free(session, bounds)

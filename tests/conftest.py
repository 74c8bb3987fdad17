"""What every test may rely on: no settings of the person who runs it, no network-sized surprises, torch only where it is."""

from __future__ import annotations

import gc
import importlib.util
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parent
HEAVY = ("torch", "numpy")
# Variables that choose how a run is done; all other SAFELOAD_ variables are the user's settings and would change results.
OURS = frozenset(
    {"SAFELOAD_MACHINE", "SAFELOAD_FUZZ", "SAFELOAD_REAL", "SAFELOAD_REAL_DIR", "SAFELOAD_PROGRAMS", "SAFELOAD_LIBRARIES",
     "SAFELOAD_SERVICES"}
)  # fmt: skip

# The model files of tests/real are fetched when its tests are collected, so only its own session collects them.
# What tests/services needs of servers and programs, its own session installs.
collect_ignore = [name for name, said in (("real", "SAFELOAD_REAL"), ("services", "SAFELOAD_SERVICES")) if not os.environ.get(said)]

# Two cores shared with compilers and linters: wall-clock deadlines would only measure the neighbours.
settings.register_profile("safeload", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("safeload")


def pytest_report_header() -> list[str]:
    """Say which machine and which torch the results are about."""
    from safeload.walk import MACHINE

    there = [name if importlib.util.find_spec(name) else f"no {name}" for name in HEAVY]
    return [f"safeload: {MACHINE} machine, {', '.join(there)}"]


class _Module(pytest.Module):
    """A test module that is skipped when torch or numpy is missing, wherever below it the test code imports them.

    Only imports made by files under tests/ count: if safeload itself needed torch to be imported, that is a failure.
    """

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Collect, or skip with the name of what is missing."""
        try:
            yield from super().collect()
        except self.CollectError as error:
            cause = error.__cause__
            if not isinstance(cause, ModuleNotFoundError) or cause.name not in HEAVY:
                raise
            frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if "importlib" not in frame.filename]
            if not frames or not Path(frames[-1].filename).resolve().is_relative_to(TESTS):
                raise
            pytest.skip(f"needs {cause.name}", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Use `_Module` where something that tests may import is not installed."""
    if all(importlib.util.find_spec(name) for name in HEAVY):
        return None
    module: pytest.Module = _Module.from_parent(parent, path=module_path)
    return module


def pytest_collection_finish() -> None:
    """Ten thousand tests and what they import stay to the end: the collector need not go through them again and again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip single tests marked `torch` where torch is not installed."""
    if importlib.util.find_spec("torch"):
        return
    skip = pytest.mark.skip(reason="needs torch")
    for item in items:
        if item.get_closest_marker("torch"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Take the user's lockfile, policy, torch switches and caches out of the picture."""
    for name in list(os.environ):
        if (name.startswith("SAFELOAD_") and name not in OURS) or name.startswith("TORCH_FORCE_"):
            monkeypatch.delenv(name)
    cache = tmp_path_factory.getbasetemp() / "cache"
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(cache))

"""What every test against a real server may rely on."""

from __future__ import annotations

from pathlib import Path

import pytest

from safeload.remote import patience
from safeload.remote.patience import Patience


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty directory, be patient for a short while only, and let no proxy come between."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(patience, "PATIENCE", Patience(attempts=3, connect=3, stall=5, pause=0.01, longest=0.1))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path

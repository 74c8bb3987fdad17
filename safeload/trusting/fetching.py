"""Fetch a Sigstore instance's current trusted root through TUF: the one place where trust comes over a network.

python-tuf's client does the work. Where it starts is a root of TUF's that is known beforehand: for the public instance the one that
safeload carries, for another the one that the caller has. What was seen before is kept per repository, so that an older state
cannot be served again (rollback); what is kept is verified from the start at each run, so who changes it gains nothing.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from safeload.errors import SafeloadError, SignatureError, UsageError
from safeload.findings import escape
from safeload.signatures.material import read_small
from safeload.trust.by_sigstore import check_root
from safeload.trust.cache import cache_directory

__all__ = ["PUBLIC_URL", "fetch_root"]

PUBLIC_URL: Final = "https://tuf-repo-cdn.sigstore.dev"
TARGET: Final = "trusted_root.json"

_STARTS: Final = Path(__file__).parents[1] / "trust" / "roots" / "tuf"
_LONGEST: Final = 4 << 20
_TIMEOUT: Final = 30


def fetch_root(url: str | None = None, bootstrap: str | os.PathLike[str] | None = None) -> bytes:
    """Return the trusted root that a TUF repository serves now, byte for byte.

    Args:
        url: The repository; None: the public instance's.
        bootstrap: A root of the repository's TUF metadata (`root.json`) that is trusted; needed with `url`.

    Raises:
        UsageError: a repository without a bootstrap, or the other way round.
        SafeloadError: it cannot be reached, serves metadata that is expired, older than what was seen, or not signed by
            its keys, or a root that is not the one that it lists or that cannot be used.
    """
    if (url is None) != (bootstrap is None):
        raise UsageError(
            "a TUF repository and where trust in it starts go together", hint="--url URL --bootstrap root.json, from a place that you trust"
        )
    place = (url or PUBLIC_URL).rstrip("/")
    if not place.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
        raise UsageError(f"a TUF repository is reached by https: {escape(place, 200)}")
    start = _STARTS / "sigstore-public-good.root.json" if bootstrap is None else Path(bootstrap)
    with _kept(place) as folder:
        data = _fetched(place, read_small(start, "the bootstrap root"), folder)
    try:
        check_root(data)
    except SignatureError as error:
        raise SafeloadError(f"the fetched root cannot be used: {error.message}", where=escape(place, 200)) from error
    return data


@contextmanager
def _kept(url: str) -> Iterator[Path]:
    """Give the directory for one repository's metadata; one that is dropped afterwards where nothing private can be kept."""
    cache = cache_directory()
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="safeload-tuf-") as folder:
            yield Path(folder)
        return
    kept = cache / "tuf" / hashlib.sha256(url.encode()).hexdigest()
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    yield kept


def _fetched(url: str, start: bytes, folder: Path) -> bytes:
    from tuf.api.exceptions import DownloadError, RepositoryError
    from tuf.ngclient.config import UpdaterConfig
    from tuf.ngclient.updater import Updater
    from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

    said = f"the trusted root could not be fetched from {escape(url, 200)}"
    config = UpdaterConfig(app_user_agent="safeload")
    try:
        updater = Updater(
            str(folder), url, target_base_url=f"{url}/targets/", fetcher=Urllib3Fetcher(_TIMEOUT, app_user_agent="safeload"), config=config,
            bootstrap=start,
        )  # fmt: skip
        updater.refresh()
        info = updater.get_targetinfo(TARGET)
        if info is None:
            raise SafeloadError(f"{said}: the repository lists no {TARGET}")
        if info.length > _LONGEST:
            raise SafeloadError(f"{said}: {TARGET} has {info.length} bytes, and at most {_LONGEST} are read")
        with tempfile.TemporaryDirectory(prefix="safeload-tuf-") as target:
            return Path(updater.download_target(info, str(Path(target, TARGET)))).read_bytes()
    except SafeloadError:
        raise
    except DownloadError as error:
        raise SafeloadError(f"{said}: {_first_line(error)}", hint="nothing was changed; loads need no network") from error
    except RepositoryError as error:
        hint = "nothing was changed; what the repository served does not verify: compare with what its owner says elsewhere"
        raise SafeloadError(f"{said}: {_first_line(error)}", hint=hint) from error
    except Exception as error:  # whatever else leaks out of parsing what somebody served
        raise SafeloadError(f"{said}: {type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return escape(lines[0] if lines else type(error).__name__, 300)

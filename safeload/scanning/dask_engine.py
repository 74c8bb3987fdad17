"""A Dask cluster as an executor: `dask://host:port` is the address of its scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from safeload.errors import MissingExtraError, UnsupportedError, UsageError
from safeload.findings import escape

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["dask_executor"]

_SCHEMES: Final = {"dask": "tcp", "dask+tls": "tls", "dask+ucx": "ucx", "dask+ws": "ws", "dask+wss": "wss"}
_CONNECT: Final = 30  # seconds


@contextmanager
def dask_executor(engine: str) -> Iterator[tuple[Executor, int]]:
    """Connect to a scheduler; Dask's own configuration says how, certificates of `dask+tls://` among it.

    Yields:
        The executor, and how many tasks the cluster works at together.

    Raises:
        UsageError: it is not the address of a scheduler.
        MissingExtraError: Dask is not installed.
        UnsupportedError: nobody answers there, or nobody works there.
    """
    scheme, separator, place = engine.partition("://")
    if not separator or scheme not in _SCHEMES or not place:
        raise UsageError(f"'{escape(engine, 100)}' is no engine", hint="dask://host:port is the address of a Dask scheduler")
    try:
        from distributed import Client
    except ImportError:
        client: Any = None
    else:
        client = Client
    if client is None:
        raise MissingExtraError("scanning on a Dask cluster needs Dask, which is not installed", hint="pip install 'safeload[dask]'")
    try:
        connected = client(f"{_SCHEMES[scheme]}://{place}", timeout=_CONNECT, set_as_default=False)
    except (OSError, ValueError, RuntimeError) as error:
        problem = UnsupportedError(f"no Dask scheduler answers at {escape(place, 100)} ({type(error).__name__})")
    else:
        try:
            width = sum(connected.nthreads().values())
            if not width:
                raise UnsupportedError(f"the Dask cluster at {escape(place, 100)} has no workers")
            # What a lost worker had is given to another one; a task that brings worker after worker down is given up by Dask itself.
            yield connected.get_executor(pure=False), width
        finally:
            connected.close()
        return
    raise problem

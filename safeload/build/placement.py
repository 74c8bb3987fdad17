"""Where storages go: `map_location` in all its forms, through torch's own registry of devices.

Caller's code runs here (a callable `map_location`, a device's restorer), so this happens only after the bytes were verified.
Whatever such code raises travels as `CallerError` past everything that would take it for a fault of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch

from safeload.errors import ArgumentError, SafeloadError, UnsupportedError
from safeload.findings import escape

__all__ = ["CallerError", "Placement"]

_torch: Any = torch  # for functions without types

_HINT = "map_location='cpu' puts every storage into main memory"


class CallerError(BaseException):
    """Carries what the caller's own code raised; `build_torch` raises `error` in its place."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class Placement:
    """One `map_location`, understood.

    Args:
        map_location: None, a string or bytes, a `torch.device`, a dict of tags, or a callable of (storage, tag).
    """

    def __init__(self, map_location: Any) -> None:
        if isinstance(map_location, (bytes, bytearray)):
            # torch takes bytes for a string and then trips over them; what is meant is plain
            map_location = bytes(map_location).decode("ascii", "replace")
        self.map_location = map_location
        self.fixed: str | None = str(map_location) if isinstance(map_location, (str, torch.device)) else None
        self.is_meta = self.fixed == "meta" or (isinstance(map_location, torch.device) and map_location.type == "meta")

    @contextmanager
    def announced(self, *, functions: bool = True) -> Iterator[None]:
        """Let torch's rebuild functions know the map_location, and take it back whatever happens.

        Args:
            functions: Tell a function, too. Those that would need it raise then; of legacy streams torch never tells them.
        """
        state = _torch.serialization._serialization_tls  # noqa: SLF001 — how torch itself hands it on
        before = state.map_location
        state.map_location = None if callable(self.map_location) and not functions else self.map_location
        try:
            yield
        finally:
            state.map_location = before

    def place(self, storage: torch.UntypedStorage, tag: str) -> torch.UntypedStorage:
        """Move a filled CPU storage to where it belongs.

        Args:
            storage: The storage.
            tag: The device tag that the file gives it.

        Returns:
            It itself, or its copy on another device, of the same number of bytes.

        Raises:
            UnsupportedError: the device is not there; the text is torch's.
            ArgumentError: the map_location is no such thing, or gave something else than a storage.
            CallerError: the callable raised.
        """
        wanted, ours = self.map_location, True
        target: Any
        if wanted is None:
            target, ours = tag, False
        elif self.fixed is not None:
            target = self.fixed
        elif isinstance(wanted, dict):
            target = wanted.get(tag, tag)
            ours = tag in wanted
        else:
            placed = self._ask(wanted, storage, tag)
            if placed is not None:
                return self._checked(placed, storage)
            target, ours = tag, False
        if isinstance(target, torch.device):
            target = str(target)
        if not isinstance(target, str):
            raise ArgumentError(f"map_location names a {type(target).__name__} as the device for {escape(tag)!r}")
        return self._checked(_restore(storage, target, chosen=ours), storage)

    def _ask(self, function: Callable[[Any, str], Any], storage: torch.UntypedStorage, tag: str) -> Any:
        if not callable(function):
            raise ArgumentError(f"map_location: '{type(function).__name__}' object is not callable")
        try:
            return function(storage, tag)
        except BaseException as error:  # noqa: BLE001 — it is the caller's, and goes back to the caller
            raise CallerError(error) from None

    def _checked(self, placed: Any, storage: torch.UntypedStorage) -> torch.UntypedStorage:
        if not isinstance(placed, torch.UntypedStorage):
            raise ArgumentError(f"map_location gave a {type(placed).__name__}; it must give an UntypedStorage or None")
        if placed.nbytes() < storage.nbytes():
            raise ArgumentError(f"map_location gave a storage of {placed.nbytes()} bytes for one of {storage.nbytes()}")
        return placed


def _restore(storage: torch.UntypedStorage, target: str, *, chosen: bool) -> Any:
    """Call torch's registry, other people's entries in it included.

    Args:
        storage: To be moved.
        target: The device tag.
        chosen: The caller named the device; else the file did.
    """
    try:
        return _torch.serialization.default_restore_location(storage, target)
    except SafeloadError:
        raise
    except RuntimeError as error:
        raise UnsupportedError(escape(str(error), 500), hint="" if chosen else _HINT) from error
    except Exception as error:  # noqa: BLE001
        # A tag that the file made up may trip any of the registered functions; a device that the caller chose is the caller's.
        _raise(error, target, chosen=chosen)


def _raise(error: Exception, target: str, *, chosen: bool) -> NoReturn:
    if chosen:
        raise CallerError(error) from None
    raise UnsupportedError(f"device {escape(target, 80)!r}: {escape(str(error))}", hint=_HINT) from error

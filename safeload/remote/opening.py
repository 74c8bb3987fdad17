"""Which backend an address is for."""

from __future__ import annotations

from safeload.findings import escape
from safeload.remote.address import Address
from safeload.remote.ranges import Backend, Ranges

__all__ = ["open_address"]


def open_address(address: Address) -> Ranges:
    """Ask for the size and version of the file behind an address."""
    name = escape(address.shown, 1000)
    return Ranges(_backend(address, name), name, address.shown)


def _backend(address: Address, name: str) -> Backend:
    if address.protocol in ("http", "https"):
        from safeload.remote.http_ranges import HttpRanges

        return HttpRanges(address.url, name)
    if address.protocol == "hf":
        from safeload.remote.hub import hub_ranges

        return hub_ranges(address.url, name)
    from safeload.remote.file_systems import file_system_ranges

    return file_system_ranges(address, name)

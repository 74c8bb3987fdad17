"""Files that are not on this machine, read by ranges: no more of them than a verdict needs.

`Address` is what a URL becomes; `Source` opens one like a path. One module for each way in: http, the hub, and fsspec's file systems.
"""

from safeload.remote.address import Address, is_address, is_prefix, shown
from safeload.remote.ranges import Ranges

__all__ = ["Address", "Ranges", "is_address", "is_prefix", "shown"]

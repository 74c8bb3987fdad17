"""Sizes as people write them."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["size_of"]

_SIZE: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([kmgt]?)(i?)b?", re.ASCII | re.IGNORECASE)


def size_of(text: str) -> int | None:
    """Bytes that a text such as "500000", "10 MB" or "2GiB" means; None for any other."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    base = 1024 if found[3] else 1000
    return int(float(found[1]) * base ** ("kmgt".index(found[2].lower()) + 1 if found[2] else 0))

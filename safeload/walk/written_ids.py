"""Persistent ids of protocol 0, which pickle writes as text: `('storage', <class 'torch.FloatStorage'>, '0', 'cpu', 4)`.

torch writes such checkpoints and cannot read them. The text says all that is needed, in one form only; nothing is evaluated.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["LONGEST_ID", "written_id"]

LONGEST_ID: Final = 500  # bytes
_FORM: Final = re.compile(
    r"\('storage', <class '([A-Za-z0-9.]{1,80})'>, '([^'\\\x00-\x1f]{1,200})', '([^'\\\x00-\x1f]{1,80})', ([0-9]{1,18})(?:, None)?\)\Z",
    re.ASCII,
)


def written_id(line: bytes | str) -> tuple[str, str, str, int] | None:
    """Return (storage class, key, location, elements) of such a line, or None when it is something else."""
    if len(line) >= LONGEST_ID:
        return None
    found = _FORM.match(line if isinstance(line, str) else line.decode("latin-1"))
    return (found[1], found[2], found[3], int(found[4])) if found else None

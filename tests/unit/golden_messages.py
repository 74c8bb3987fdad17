"""Messages of errors, kept word for word below tests/golden/messages. `UPDATE_GOLDEN=1 pytest …` writes them anew: read the diff."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

__all__ = ["compare_message", "without_digests"]

GOLDEN: Final = Path(__file__).parents[1] / "golden" / "messages"


def without_digests(text: str) -> str:
    """Put in place of what is another in each run: digests, ports, times, the working directory."""
    text = text.replace(str(Path.cwd()), "/work")
    text = re.sub(r"sha256:[0-9a-f]{64}", "sha256:…", text)
    text = re.sub(r"SHA256:[A-Za-z0-9+/]{43}", "SHA256:…", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:…", text)
    text = re.sub(r"\b[0-9a-f]{32,128}\b", "…", text)
    return re.sub(r"\b20\d\d-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?(?:Z|\+00:00)?)?", "(time)", text)


def compare_message(name: str, error: BaseException, **replaced: str) -> None:
    """Compare an error, with its check, with the text that is kept, or write it.

    Args:
        name: The file below tests/golden/messages, without ".txt".
        error: Its type, text and, of a `SignatureError`, its check.
        **replaced: What to show in the place of a text that is another in each run.
    """
    text = str(error)
    for shown, found in replaced.items():
        text = text.replace(found, f"({shown})")
    check = getattr(error, "check", "")
    text = f"{type(error).__name__}{f' [{check}]' if check else ''}\n{without_digests(text)}\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path} is another; UPDATE_GOLDEN=1 writes it anew"

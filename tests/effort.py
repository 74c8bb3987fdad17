"""What a hostile file may cost, in processor time: that of this process, so that a busy machine does not change it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail when what is done inside takes longer than that.

    No measurement: the limit is many times what it takes. What is looked for is a cost that grows faster than the input, or no end.
    """
    start = time.process_time()
    yield
    took = time.process_time() - start
    assert took < seconds, f"it took {took:.1f} s of processor time, where {seconds} s are many times enough"

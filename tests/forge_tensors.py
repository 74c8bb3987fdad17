"""Forge streams of dense tensors as torch writes them, and as it never would. Nothing here needs torch."""

from __future__ import annotations

import random
from typing import Any

from tests.forge import (
    APPEND,
    BINPERSID,
    DUP,
    EMPTY_LIST,
    EMPTY_TUPLE,
    GET,
    GLOBAL,
    INT,
    MARK,
    MEMOIZE,
    NEWFALSE,
    NEWTRUE,
    NONE,
    POP,
    POP_MARK,
    PROTO,
    PUT,
    REDUCE,
    STOP,
    TEXT,
    TUPLE,
    TUPLE1,
    stream,
)  # fmt: skip

__all__ = ["HOOKS", "PUT_TENSOR", "TENSOR", "random_tensors", "rest", "storage", "tensor"]

TENSOR = GLOBAL("torch._utils", "_rebuild_tensor_v2")
HOOKS = stream(GLOBAL("collections", "OrderedDict"), EMPTY_TUPLE, REDUCE)


def storage(key: str, count: int = 2, kind: str = "FloatStorage") -> bytes:
    return stream(MARK, TEXT("storage"), GLOBAL("torch", kind), TEXT(key), TEXT("cpu"), INT(count), TUPLE, BINPERSID)


def rest(count: int = 2, *, gradient: bytes = NEWFALSE, hooks: bytes = HOOKS) -> bytes:
    return stream(INT(0), INT(count), TUPLE1, INT(1), TUPLE1, gradient, hooks)


def tensor(key: str, count: int = 2, *, callee: bytes = TENSOR, **keywords: Any) -> bytes:
    return stream(callee, MARK, storage(key, count), rest(count, **keywords), TUPLE, REDUCE)


PUT_TENSOR = stream(TENSOR, PUT(9))
def random_tensors(rng: random.Random) -> bytes:
    """A stream around some tensors, with memo entries, marks, and changes in odd places."""
    odd = [
        stream(TEXT("t"), PUT(rng.randrange(8)), POP),
        stream(GET(rng.randrange(10)), POP),
        stream(NONE, PUT(rng.randrange(8)), POP),
        stream(GET(rng.randrange(10)), PUT(rng.randrange(10)), POP),
        stream(MARK, POP_MARK),
        stream(NONE, DUP, POP, POP),
        stream(GET(0), TEXT("x"), APPEND, POP),
        stream(EMPTY_TUPLE, PUT(rng.randrange(8)), POP),
        stream(HOOKS, PUT(rng.randrange(8)), POP),
        stream(INT(7), TUPLE1, PUT(rng.randrange(8)), POP),
        stream(tensor("5", callee=GET(9)), PUT(rng.randrange(8)), POP),
        MEMOIZE,
    ]

    def maybe() -> bytes:
        return rng.choice(odd) if rng.random() < 0.12 else b""

    def one() -> bytes:
        size = stream(INT(2), TUPLE1, PUT(rng.randrange(8)) if rng.random() < 0.2 else b"")
        return stream(
            GET(9) if rng.random() < 0.9 else TENSOR,
            maybe(),
            MARK,
            maybe(),
            storage(str(rng.randrange(5))),
            maybe(),
            INT(0),
            GET(rng.randrange(8)) if rng.random() < 0.05 else size,
            maybe(),
            INT(1),
            TUPLE1,
            rng.choice([NEWFALSE, NEWTRUE]),
            HOOKS,
            maybe(),
            TUPLE,
            rng.choice([b"", b"", PUT(rng.randrange(8)), DUP + POP]),
            REDUCE,
            PUT(rng.randrange(8)) if rng.random() < 0.3 else b"",
        )

    start = stream(EMPTY_LIST, PUT(0), PUT_TENSOR, POP)
    body = stream(*(stream(maybe(), one(), APPEND, maybe()) for _ in range(rng.randint(1, 6))))
    end = b"" if rng.random() < 0.5 else stream(GET(rng.randrange(8)), APPEND)
    return stream(PROTO(2), start, body, end, STOP)



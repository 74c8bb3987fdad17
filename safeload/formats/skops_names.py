"""Which types a skops file names as a matter of course: scikit-learn's, and what of numpy, scipy and Python lies in them.

This list lets a file pass without a remark; it never lets one be built, because skops files are not built here. What is
dangerous is known elsewhere (`walk.names`) and asked first, so an entry here cannot hide it.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["BIT_GENERATORS", "is_known"]

BIT_GENERATORS: Final = frozenset(("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"))
"""The classes that skops looks up in `numpy.random` by a name that stands in the file as plain text, and calls."""

_CLASS: Final = re.compile(r"_*[A-Z]\w*")
_CORE: Final = re.compile(r"numpy\._?core(?:\.(?:_multiarray_umath|multiarray|umath|fromnumeric))?\Z")
_SPARSE: Final = re.compile(r"(?:csr|csc|coo|bsr|dia|dok|lil)_(?:matrix|array)")
_PLAIN: Final = {
    "builtins": "bool bytearray bytes complex dict float frozenset int list range set slice str tuple NoneType",
    "collections": "Counter OrderedDict defaultdict deque",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "zoneinfo": "ZoneInfo",
    "numpy.ma": "MaskedArray",
    "numpy.ma.core": "MaskedArray",
    "numpy.random": "Generator RandomState SeedSequence",
    "numpy.random._generator": "Generator",
    "numpy.random.mtrand": "RandomState",
    "numpy": """
        ndarray matrix recarray dtype bool bool_ bytes_ str_ object_ void float16 float32 float64 longdouble float128 half single double
        int8 int16 int32 int64 longlong intc intp uint8 uint16 uint32 uint64 ulonglong uintc uintp complex64 complex128 clongdouble
        complex256 datetime64 timedelta64
        abs absolute acos acosh add arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan atan2 atanh bitwise_and
        bitwise_count bitwise_invert bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor cbrt ceil conj conjugate
        copysign cos cosh deg2rad degrees divide divmod equal exp exp2 expm1 fabs float_power floor floor_divide fmax fmin fmod frexp gcd
        greater greater_equal heaviside hypot invert isfinite isinf isnan isnat lcm ldexp left_shift less less_equal log log10 log1p log2
        logaddexp logaddexp2 logical_and logical_not logical_or logical_xor matmul matvec maximum minimum mod modf multiply negative
        nextafter not_equal positive pow power rad2deg radians reciprocal remainder right_shift rint sign signbit sin sinh spacing sqrt
        square subtract tan tanh true_divide trunc vecdot vecmat
        all any argmax argmin average cumsum clip dot max mean median min prod ravel reshape squeeze std sum transpose var where zeros ones
    """,
}  # fmt: skip
_WORDS: Final = {module: frozenset(names.split()) for module, names in _PLAIN.items()}
# Packages whose classes are ordinary data, and, below them, whose functions are what an estimator is told to use.
_CLASSES: Final = ("sklearn.", "scipy.interpolate.", "scipy.sparse.", "scipy.stats.", "scipy.spatial.")
_FUNCTIONS: Final = (
    "scipy.special", "scipy.stats", "sklearn.covariance", "sklearn.feature_selection", "sklearn.gaussian_process", "sklearn.metrics",
    "sklearn.preprocessing", "sklearn.utils.extmath", "sklearn._loss", "sklearn.neighbors",
)  # fmt: skip


def is_known(module: str, name: str) -> bool:
    """Whether scikit-learn's own models name this type or function.

    Args:
        module: As the file spells it ("sklearn.svm._classes").
        name: Likewise, without dots.
    """
    if name in _WORDS.get("numpy" if _CORE.match(module) else module, ()):
        return True
    if not re.fullmatch(r"\w+(?:\.\w+)*", module) or module.startswith(("sklearn.externals", "sklearn.datasets", "sklearn.utils._test")):
        return False
    inside = f"{module}."
    if inside.startswith(_CLASSES) and (_CLASS.fullmatch(name) or _SPARSE.fullmatch(name) or name in ("interp1d", "rv_frozen")):
        return True
    return inside.startswith(tuple(f"{prefix}." for prefix in _FUNCTIONS)) and re.fullmatch(r"\w+", name) is not None

"""Run by a process that multiprocessing spawned, with ROOT and OPTIONS given; see safeload.installing.children."""

import sys


def _install(root: str, options: bytes) -> None:
    """Let safeload be found for as long as it takes; multiprocessing sets the parent's path right after."""
    before = list(sys.path)
    if root not in sys.path:
        sys.path.append(root)
    try:
        from safeload.installing.children import from_parent

        from_parent(options)
    finally:
        sys.path[:] = before


_install(ROOT, OPTIONS)  # type: ignore[name-defined]  # noqa: F821 - given by run_path

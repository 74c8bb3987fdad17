"""Imported by Python's own start-up under `safeload run`: covers the process, then lets the real sitecustomize have its turn.

It may be met by any Python that a program starts, older ones too, so it uses only what they all know until the version is clear.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def _stop(why: object) -> None:
    """End the process: a program that was to be covered and is not must not run."""
    sys.stderr.write("safeload: the program was not started, because it could not be covered: %s\n" % (why,))
    sys.stderr.flush()
    os._exit(2)


def _cover() -> None:
    """Install safeload as the environment says."""
    if "SAFELOAD_RUN" not in os.environ:
        return
    if sys.version_info < (3, 11):
        if _has_torch():
            _stop("Python %d.%d has torch, and is too old for safeload" % sys.version_info[:2])
        return
    # Where safeload lies, for interpreters of other environments; at the end, so that nothing else is found there first.
    root = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
    before = list(sys.path)
    if root not in sys.path:
        sys.path.append(root)
    try:
        from safeload.installing.children import from_environment

        from_environment()
    except Exception as error:
        _stop(error)
    finally:
        sys.path[:] = before


def _has_torch() -> bool:
    """Whether this interpreter could load a model at all."""
    return any(os.path.isdir(os.path.join(entry or os.curdir, "torch")) for entry in sys.path)


def _go_on() -> None:
    """Leave the module path as the program would have found it, and run the sitecustomize that we stand in front of."""
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != HERE]
    from importlib.machinery import PathFinder

    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is None or spec.loader is None:
        return
    from importlib.util import module_from_spec

    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


_cover()
_go_on()

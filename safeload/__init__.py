"""safeload: know a model file before it touches your process.

`safeload.load` takes the place of `torch.load`: it finds the pin, checks the digest, analyses the stream without running a
byte of it, and builds the same tensors. Importing this package imports nothing else; every name below is resolved when it
is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing's, whose import would cost more than this one

__version__ = "0.1.0"

if TYPE_CHECKING:
    from typing import Any

    from safeload.api import load, scan
    from safeload.conversion import convert
    from safeload.errors import (
        GroupError,
        LockfileError,
        MalformedError,
        PinError,
        PolicyError,
        RefusedError,
        RemoteError,
        SafeloadError,
        SafeloadWarning,
        SignatureError,
    )
    from safeload.findings import Decision, Finding, Level, Report
    from safeload.inspection import inspect
    from safeload.installing import install, installed, uninstall
    from safeload.lazy import open
    from safeload.pinning import lock, verify
    from safeload.policy import Policy
    from safeload.profiles import plain
    from safeload.program import Inert
    from safeload.scanning import Skipped, scan_many
    from safeload.source import Limits
    from safeload.state_dicts import state_dict

_HOME = {
    "load": "api", "scan": "api", "convert": "conversion", "inspect": "inspection", "install": "installing",
    "installed": "installing", "uninstall": "installing", "open": "lazy", "lock": "pinning", "verify": "pinning",
    "Policy": "policy", "Inert": "program", "Limits": "source", "state_dict": "state_dicts", "plain": "profiles",
    "scan_many": "scanning", "Skipped": "scanning",
    "Decision": "findings", "Finding": "findings", "Level": "findings", "Report": "findings",
    "GroupError": "errors", "LockfileError": "errors", "MalformedError": "errors", "PinError": "errors", "PolicyError": "errors",
    "RefusedError": "errors", "RemoteError": "errors", "SafeloadError": "errors", "SafeloadWarning": "errors", "SignatureError": "errors",
}  # fmt: skip

__all__ = [
    "Decision", "Finding", "GroupError", "Inert", "Level", "Limits", "LockfileError", "MalformedError", "PinError", "Policy",
    "PolicyError", "RefusedError", "RemoteError", "Report", "SafeloadError", "SafeloadWarning", "SignatureError",
    "Skipped", "__version__", "convert", "inspect", "install", "installed", "load", "lock", "open", "plain", "scan",
    "scan_many", "state_dict", "uninstall", "verify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'safeload' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"safeload.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

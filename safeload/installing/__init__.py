"""`safeload.install()`: code that calls `torch.load` itself gets `safeload.load`, without being touched."""

from __future__ import annotations

from safeload.installing.switch import install, installed, uninstall

__all__ = ["install", "installed", "uninstall"]

"""Know a model file before it touches your process."""

from __future__ import annotations

# Read by the build without importing: it must stay a plain literal.
__version__ = "0.1.0"

"""Scans of many files: which they are, where they are scanned, and what of them is known already.

`jobs` finds the files, `one_file` scans one, `engines` say where, `journal` keeps what was found, and `many` leads all of them.
"""

from safeload.scanning.jobs import Job, Settings, Skipped, collect
from safeload.scanning.many import Plan, results, scan_many
from safeload.scanning.one_file import failed, scan_file

__all__ = ["Job", "Plan", "Settings", "Skipped", "collect", "failed", "results", "scan_file", "scan_many"]

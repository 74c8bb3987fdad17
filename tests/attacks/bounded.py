"""Scans streams in a process with little memory: reads length-prefixed files from stdin, answers one JSON line each.

[outcome, rules, error, seconds of processor time]. Started by test_exhaustion.py; whatever is forged there must end here.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
import time

MEMORY = 1 << 30


def main() -> None:
    import safeload

    safeload.scan(b"\x80\x02N.", policy={}, lock=False)  # imports first
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    source = sys.stdin.buffer
    while head := source.read(4):
        data = source.read(struct.unpack("<I", head)[0])
        start = time.process_time()
        report = safeload.scan(data, policy={}, lock=False)
        rules = sorted({found.rule for found in report.findings})
        print(json.dumps([report.decision.outcome.value, rules, report.error, time.process_time() - start]), flush=True)


if __name__ == "__main__":
    main()

"""Regenerates the table of operators after a change of the graphs or of MindSpore; review the difference afterwards.

python -m tests.ascend.table

Runs all cases for all chips, which takes half an hour, and prints a line for each.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.ascend.cases import GRAPHS
from tests.ascend.probe import run_probe
from tests.ascend.rules import CHIPS, TABLE, write_table
from tests.ascend.stubs.build import build, unsupported_reason


def main() -> int:
    reason = unsupported_reason()
    if reason:
        sys.stderr.write(f"{reason}\n")
        return 1
    signatures: dict[str, set[str]] = {chip: set() for chip in CHIPS}
    failed = []
    with tempfile.TemporaryDirectory(prefix="cann_stubs_") as folder:
        stubs = build(Path(folder))
        for case in GRAPHS:
            for chip, found in signatures.items():
                probe = run_probe(stubs, case, chip)
                if probe.error:
                    failed.append(f"{case} on {chip} failed: {probe.error}")
                found |= probe.signatures
                sys.stdout.write(f"{case} on {chip}: {len(probe.signatures)} signatures, {probe.seconds:.0f} s\n")
                sys.stdout.flush()
    if failed:
        # All at once, since every attempt takes half an hour.
        sys.stderr.write("\n".join([*failed, f"{TABLE.name} was not written"]) + "\n")
        return 1
    write_table(signatures)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Writes the table of operators anew, after a change of the graphs or of MindSpore; look at its difference then.

python -m tests.ascend.table

It probes all cases on all chips, for half an hour, and says of each what it is.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.ascend.cases import GRAPHS
from tests.ascend.probe import run_probe
from tests.ascend.rules import CHIPS, TABLE, write_table
from tests.ascend.stubs.build import build, why_not


def main() -> int:
    reason = why_not()
    if reason:
        sys.stderr.write(f"{reason}\n")
        return 1
    signatures: dict[str, set[str]] = {chip: set() for chip in CHIPS}
    refused = []
    with tempfile.TemporaryDirectory(prefix="cann_stubs_") as folder:
        stubs = build(Path(folder))
        for case in GRAPHS:
            for chip, found in signatures.items():
                probe = run_probe(stubs, case, chip)
                if probe.refusal:
                    refused.append(f"{case} on {chip} is refused: {probe.refusal}")
                found |= probe.signatures
                sys.stdout.write(f"{case} on {chip}: {len(probe.signatures)} signatures, {probe.seconds:.0f} s\n")
                sys.stdout.flush()
    if refused:
        # All of them, since another half an hour passes before the next one would show.
        sys.stderr.write("\n".join([*refused, f"{TABLE.name} was not written"]) + "\n")
        return 1
    write_table(signatures)
    return 0


if __name__ == "__main__":
    sys.exit(main())

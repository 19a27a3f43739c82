"""The process that converts SMILES for :mod:`graphdiff.data.preprocess`.

``python -m graphdiff.data.worker OUT ATOM...`` reads SMILES from standard input, one a line,
prints how many are done now and then, and writes the packed arrays and the failures to OUT.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from graphdiff.data.packed import write_arrays
from graphdiff.graph.molecules import pack_smiles


def main(out: str, *atoms: str) -> None:
    """Runs one conversion."""
    lines = sys.stdin.read().split("\n")
    arrays, failures = pack_smiles(lines, atoms, lambda n: print(n, flush=True))
    arrays["failures"] = np.frombuffer(json.dumps(failures).encode(), np.uint8)
    write_arrays(Path(out), arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])

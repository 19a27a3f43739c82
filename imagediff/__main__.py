"""``python -m imagediff``."""

from __future__ import annotations

from imagediff.cli import main

main()

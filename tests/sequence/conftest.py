"""Lets the tests of this folder import their support modules, and those of all tests, by name."""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = Path(__file__).parent
for _FOLDER in (str(_HERE), str(_HERE.parent / "support")):
    if _FOLDER not in sys.path:
        sys.path.insert(0, _FOLDER)

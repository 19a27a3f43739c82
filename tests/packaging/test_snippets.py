"""Every ``python`` block of the README and the documentation runs, page by page, top to bottom.

Blocks of one page share their names, as a reader who types them one after the other would expect.
``text`` and ``console`` blocks are not run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```python[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_CODE = [p for p in PAGES if "_build" not in p.parts and FENCE.search(p.read_text("utf-8"))]


def blocks(page: Path) -> list[tuple[int, str]]:
    text = page.read_text("utf-8")
    return [(text.count("\n", 0, m.start()) + 2, m.group(1)) for m in FENCE.finditer(text)]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_snippets_run(page, tmp_path):
    # Padded with empty lines, so that a traceback shows the line of the page.
    lines: list[str] = []
    for first, code in blocks(page):
        lines += [""] * (first - 1 - len(lines))
        lines += code.rstrip("\n").split("\n")
    script = tmp_path / f"{page.stem}.py"
    script.write_text("\n".join(lines) + "\n", "utf-8")
    env = {**os.environ, "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"{page}\n{done.stdout}\n{done.stderr}"


def test_extensions_fit_in_twenty_lines():
    """The promise of the guide; if one does not fit, the abstraction is wrong."""
    for first, code in blocks(ROOT / "docs" / "extending.md"):
        count = sum(bool(line.strip()) for line in code.splitlines())
        assert count <= 20, f"docs/extending.md, line {first}: {count} lines"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_to_files_exist(page):
    if "_build" in page.parts:
        pytest.skip("built page")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_commands_of_the_readme_exist():
    """Every ``graphdiff …`` and ``make …`` in a console block names a real command."""
    from graphdiff.cli.app import app

    known = {c.name or c.callback.__name__ for c in app.registered_commands}
    known |= {g.name for g in app.registered_groups}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for page in PAGES:
        for block in re.findall(r"^```console\n(.*?)^```", page.read_text("utf-8"), re.M | re.S):
            for line in block.splitlines():
                words = line.removeprefix("$ ").split()
                if words[:1] == ["graphdiff"] and len(words) > 1 and words[1][0] != "-":
                    assert words[1] in known, f"{page}: {line}"
                if words[:1] == ["make"]:
                    assert words[1] in targets, f"{page}: {line}"

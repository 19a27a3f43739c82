"""Who imports whom, and what importing loads: rules of the design, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("graphdiff", "imagediff")
HEAVY = (
    "rdkit",
    "networkx",
    "torch_geometric",
    "matplotlib",
    "scipy.stats",
    "sklearn",
    "accelerate",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports(path: Path, *, at_import_time: bool) -> set[str]:
    """Modules named by import statements; without those for types only, optionally only those
    that run when the module is imported."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if is_type_checking(node):
            for child in node.orelse:
                visit(child)
            return
        if at_import_time and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; name the module in full"
            for alias in node.names:
                # `from package import module` needs the module, not what the package gathers.
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module or "")
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text("utf-8")))
    return found


def top(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("name", [m for m in MODULES if m.startswith("graphdiff.core")])
def test_core_imports_torch_and_the_standard_library_only(name):
    allowed = {"torch", *sys.stdlib_module_names}
    for found in imports(MODULES[name], at_import_time=False):
        if top(found) == "graphdiff":
            assert found == "graphdiff" or found.startswith("graphdiff.core"), found
        else:
            assert top(found) in allowed, f"{name} imports {found}"


@pytest.mark.parametrize("name", [m for m in MODULES if m.startswith("graphdiff")])
def test_graphdiff_never_imports_imagediff(name):
    assert "imagediff" not in {top(m) for m in imports(MODULES[name], at_import_time=False)}


@pytest.mark.parametrize("name", [m for m in MODULES if m.startswith("graphdiff.train")])
def test_the_trainer_knows_no_modality(name):
    for found in imports(MODULES[name], at_import_time=False):
        assert not found.startswith(("graphdiff.graph", "graphdiff.data", "graphdiff.cli")), found


def edges() -> dict[str, set[str]]:
    """Modules of ours that each module of ours imports when it is imported itself."""
    graph = {}
    for name, path in MODULES.items():
        wanted = imports(path, at_import_time=True) & MODULES.keys()
        # The parent packages run, too; but a package whose file imports nothing closes no circle.
        graph[name] = {m for m in wanted if m != name}
    return graph


def find_circle(graph: dict[str, set[str]]) -> list[str]:
    state: dict[str, int] = {}
    trail: list[str] = []

    def walk(node: str) -> list[str]:
        state[node] = 1
        trail.append(node)
        for other in sorted(graph[node]):
            if state.get(other) == 1:
                return [*trail[trail.index(other) :], other]
            if other not in state and (found := walk(other)):
                return found
        state[node] = 2
        trail.pop()
        return []

    for node in graph:
        if node not in state and (found := walk(node)):
            return found
    return []


def test_no_import_circle():
    graph = edges()
    # A package that gathers names of its submodules is not imported by them: checked here, too.
    assert not find_circle(graph), " -> ".join(find_circle(graph))


def test_the_search_for_circles_finds_one():
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert find_circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def loaded_after(code: str, names: tuple[str, ...]) -> list[str]:
    check = f"{code}\nimport sys\nprint(*[n for n in {names!r} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


def test_import_graphdiff_is_light():
    assert loaded_after("import graphdiff", ("torch", "numpy", *HEAVY)) == []


def test_the_facade_loads_torch_but_nothing_heavy():
    names = ("torch", *HEAVY)
    assert loaded_after("import graphdiff; graphdiff.load", names) == ["torch"]


def test_help_imports_no_torch():
    code = (
        "from typer.testing import CliRunner\n"
        "from graphdiff.cli.app import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "assert CliRunner().invoke(app, ['sample', '--help']).exit_code == 0"
    )
    assert loaded_after(code, ("torch", "numpy", *HEAVY)) == []


def test_imagediff_help_imports_no_torch():
    assert loaded_after("import imagediff.cli", ("torch", "numpy", *HEAVY)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(m for m in MODULES if not m.endswith("__main__")))
def test_every_module_imports_in_a_fresh_interpreter(name):
    """Alone and first: an import order that only works by luck fails here."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr

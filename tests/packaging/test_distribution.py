"""What is in the wheel, and what must never be importable."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of the files in a wheel built from a copy (building leaves folders behind)."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("graphdiff", "imagediff", "datasets", "benchmarks", "tests"):
        if (ROOT / name).is_dir():
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=skip)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "-w", work, source], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (path,) = work.glob("*.whl")
    assert path.name.startswith("graphdiffusion-")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_top_level_is_exactly_the_two_packages(wheel):
    tops = {name.partition("/")[0] for name in wheel}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"graphdiff", "imagediff"}


def test_every_module_and_data_file_is_in_the_wheel(wheel):
    kept = {".py", ".toml", ".json", ".safetensors", ".typed", ".npz", ".xz", ".gz", ".txt"}
    for package in ("graphdiff", "imagediff"):
        files = (p for p in (ROOT / package).rglob("*") if p.is_file())
        expected = {
            p.relative_to(ROOT).as_posix()
            for p in files
            if "__pycache__" not in p.parts and p.suffix in kept
        }
        assert expected <= set(wheel), sorted(expected - set(wheel))


def test_the_wheel_is_small_and_holds_the_licence(wheel):
    assert any(name.endswith("LICENSE") for name in wheel)


def test_datasets_is_no_package():
    """Installed, it would shadow Hugging Face's ``datasets``."""
    assert not list((ROOT / "datasets").rglob("__init__.py"))
    code = (
        "from importlib.util import find_spec\n"
        f"for name in ('datasets', 'benchmarks', 'tests'):\n"
        "    spec = find_spec(name)\n"
        "    places = spec and [spec.origin, *(spec.submodule_search_locations or [])] or []\n"
        f"    assert not any(str(p).startswith({str(ROOT)!r} + '/') for p in places), places\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_entry_points_resolve():
    from importlib.metadata import entry_points

    from graphdiff.task import task_class, task_kinds

    declared = PROJECT["project"]["entry-points"]["graphdiff.tasks"]
    assert set(declared) <= set(task_kinds())
    for kind in declared:
        assert task_class(kind).kind == kind
    scripts = {
        p.name for p in entry_points(group="console_scripts") if p.dist.name == "graphdiffusion"
    }
    assert scripts == {"graphdiff", "imagediff"}


def test_constraints_pin_every_direct_dependency_to_an_allowed_version():
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {canonicalize_name(k): v for k, v in pins.items()}
    optional = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *(r for extra in optional for r in extra)]
    for text in wanted:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name == "graphdiffusion":
            continue
        assert name in pins, f"{name} has no pin in constraints.txt"
        assert requirement.specifier.contains(pins[name]), f"{text}: pinned to {pins[name]}"


def test_imported_distributions_are_declared():
    """Every third-party module that the packages import is a dependency or an extra."""
    import ast
    import sys as system
    from importlib.metadata import packages_distributions

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    optional = PROJECT["project"]["optional-dependencies"].values()
    declared = {
        canonicalize_name(Requirement(r).name)
        for r in [*PROJECT["project"]["dependencies"], *(r for extra in optional for r in extra)]
    }
    owners = packages_distributions()
    for path in [*(ROOT / "graphdiff").rglob("*.py"), *(ROOT / "imagediff").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            )  # fmt: skip
            for top in {name.partition(".")[0] for name in names}:
                if top in system.stdlib_module_names or top in ("graphdiff", "imagediff"):
                    continue
                if top == "PIL":  # Pillow comes with matplotlib, which declares it
                    continue
                found = {canonicalize_name(d) for d in owners.get(top, [])}
                assert found & declared, f"{path} imports {top}, of {found or 'nothing installed'}"

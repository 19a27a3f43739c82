# Two commands are all that is needed: `make demo` and `make test`. Both install into .venv first;
# the stamp files make sure that a second run installs nothing.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
JOBS ?= 2
# Small dense graphs are faster on one thread per process than on all of them.
export OMP_NUM_THREADS ?= 1

.PHONY: help demo test test-slow lint format types docs clean

help:
	@echo 'make demo    install, sample 1,000 molecules, score and draw them into out/demo'
	@echo 'make test    install and run the tests (test-slow: the long ones)'
	@echo 'make lint    ruff;  make format rewrites;  make types runs mypy'
	@echo 'make docs    build the documentation into docs/_build/html'
	@echo 'make clean   remove .venv, caches and built files (never runs/ or out/)'

# What the demo needs. Debian and Ubuntu ship python3 without venv, so say what to install.
$(VENV)/.demo-installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'graphdiff needs Python 3.11 or newer; found:' "$$($(PYTHON) --version 2>&1)."; \
	  echo 'Install one and name it: make demo PYTHON=python3.12'; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv module. On Debian or Ubuntu: sudo apt install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt setuptools wheel
	$(PIP) install -q -c constraints.txt --no-build-isolation -e '.[fcd]'
	@touch $@

$(VENV)/.dev-installed: $(VENV)/.demo-installed
	$(PIP) install -q -c constraints.txt --no-build-isolation -e '.[dev]'
	@$(PIP) install -q -c constraints.txt pynauty || \
	  echo 'pynauty is not installed (it may need a C compiler): tests that compare with it are skipped'
	@touch $@

demo: $(VENV)/.demo-installed
	$(BIN)/graphdiff demo --out out/demo --force

test: $(VENV)/.dev-installed
	$(BIN)/python -m pytest -n $(JOBS)

test-slow: $(VENV)/.dev-installed
	$(BIN)/python -m pytest -n $(JOBS) -m slow

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev-installed
	$(BIN)/mypy

docs: $(VENV)/.dev-installed
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find graphdiff imagediff tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

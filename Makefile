# Everything a developer runs. Each target makes what it needs, from a bare checkout on.
#
#   make demo      the quickstart notebook, executed, and a standalone page, in build/
#   make lab       JupyterLab on the notebooks
#   make quick     the tests that need no torch, and a smoke of the magic: under a minute
#   make test      all tests (WORKERS=2 for two processes); those in a browser run where a Chromium is found
#   make browser   Debian's Chromium and axe-core for them (as root)
#   make check     ruff (lint, format), mypy strict, and which package may import which
#   make arrows    which package imports which, and in how many files
#   make docs      the documentation, warnings as errors, in build/docs
#   make pictures  the pictures of the documentation
#   make matrix    the tests on each torch from 2.7 on, one environment at a time (hours; VERSIONS="2.9.1 lowest")
#   make bench     speeds beside the peers, bugs found, false alarms, mutants flagged, formulas

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

# Processes that run tests: 0 is this one alone. Two take half the time; tests that wait for a browser or a kernel may then
# wait too long.
WORKERS ?= 0

# Two cores and many small tensors: more threads than one only wait for each other.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false
export JUPYTER_PLATFORM_DIRS := 1
# The kernel is this environment's, whatever kernels the user has installed.
export JUPYTER_PREFER_ENV_PATH := 1
# Containers often forbid it: then every kernel and every run compiles the package again (0.4 s), and pytest each test.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help
help:
	@sed -n 's/^#   \(make .*\)/\1/p' Makefile

# --- the environment -------------------------------------------------------------------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "$$($(PYTHON) --version) is too old: modelsummary_ipy needs Python 3.10 or newer; make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -qq -y python3-venv; } \
		|| { echo "Python's venv is missing: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first and by its pin: what comes after finds it there, and never asks for another.
$(VENV)/.has-torch: constraints.txt | $(BIN)/python
	$(PIP) torch
	@touch $@

$(VENV)/.has-%: $(VENV)/.has-torch pyproject.toml
	$(PIP) --editable '.[$*]'
	@touch $@

# --- to see it -------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/.has-test
	@mkdir -p build
	$(BIN)/python notebooks/run.py notebooks/quickstart.ipynb build

.PHONY: lab
lab: $(VENV)/.has-test
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks/quickstart.ipynb

# --- to trust it -----------------------------------------------------------------------------------------------------

.PHONY: check
check: $(VENV)/.has-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

.PHONY: arrows
arrows: $(VENV)/.has-dev
	$(BIN)/python -m benchmarks.arrows

.PHONY: quick
quick: $(VENV)/.has-test
	$(BIN)/python -m tests.pure --quiet -m "not slow" $(ARGS)
	$(BIN)/python -m pytest --quiet -k "typed_line or makes_no_sense or loading" tests/notebook/test_magics.py tests/test_imports.py

.PHONY: test
test: $(VENV)/.has-test
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=worksteal $(ARGS)

.PHONY: matrix
matrix: $(BIN)/python
	$(BIN)/python -m benchmarks.matrix $(VERSIONS) -- $(ARGS)

.PHONY: browser
browser: tests/browser/node_modules/axe-core/axe.min.js
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
		|| { [ "$$(id -u)" = 0 ] || { echo "make browser installs Debian's chromium and must be root"; exit 1; }; \
		     apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y chromium; }
	@echo "browser tests will run in $$(command -v chromium || command -v chromium-browser || command -v google-chrome)"

tests/browser/node_modules/axe-core/axe.min.js: tests/browser/package.json
	@command -v npm >/dev/null || { [ "$$(id -u)" = 0 ] || { echo "make browser installs Debian's npm and must be root"; exit 1; }; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends npm; }
	cd tests/browser && npm install --no-package-lock --no-audit --no-fund --loglevel=error
	@touch $@

# --- to read it ------------------------------------------------------------------------------------------------------

.PHONY: docs
docs: $(VENV)/.has-docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --builder html docs build/docs
	@echo "documentation: build/docs/index.html"

.PHONY: pictures
pictures: $(VENV)/.has-test
	$(BIN)/python docs/pictures.py

# --- to measure it ---------------------------------------------------------------------------------------------------

.PHONY: bench
bench: $(VENV)/.has-bench
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: clean
clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/browser/node_modules

# make h3s    set up .venv and run H3S from Quantum ESPRESSO labels to Tc (runs/h3s/report.html)
# make test   set up .venv, lint, type-check and test
# make lint   ruff, layout, imports between rooms, types: what pre-commit runs
# make docs   build the documentation into docs/_build/html
# make docs-check    the same, then every page in Chromium, wide and narrow: overflow, contrast, labels, pictures, links
# Choices:  PYTHON=python3.12   TORCH="torch==2.13.0"   PIP_FLAGS="--index-url ..."   RUN=runs/h3s   H3S_FLAGS="--retrain"   PYTEST_PROCESSES=1
# Without an NVIDIA GPU the CPU build of torch is taken, which is much smaller.

SHELL := /bin/bash
PYTHON ?= python3
TORCH ?= torch==2.13.0
PIP_FLAGS ?=
RUN ?= runs/h3s
H3S_FLAGS ?=
# one thread: small tensors gain nothing from more, and the same command gives the same result
export OMP_NUM_THREADS ?= 1
PYTEST_FLAGS ?=
# test files side by side, one process for each core; PYTEST_PROCESSES=0 for one after the other
PYTEST_PROCESSES ?= auto

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
PIP := $(BIN)/python -m pip install -q $(PIP_FLAGS)

.PHONY: help setup h3s test test-slow test-oldest wheel-test lint docs docs-check clean

help:
	@sed -n 's/^# make/make/p' Makefile

setup: $(STAMPS)/dev

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11; type: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "The venv module is missing; type: sudo apt install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	@mkdir -p $(STAMPS) && touch $@

# torch first and by itself, so that nothing else pulls another build of it; a wheel on disk (PIP_FIND_LINKS) wins
CPU_BUILD := $(if $(shell command -v nvidia-smi),,--extra-index-url https://download.pytorch.org/whl/cpu)
$(STAMPS)/torch: $(STAMPS)/venv
	@echo "Installing $(TORCH)"
	@$(PIP) --no-index --no-deps $(TORCH) 2>/dev/null || $(PIP) $(TORCH) $(CPU_BUILD)
	@touch $@

$(STAMPS)/package: $(STAMPS)/torch pyproject.toml
	@echo "Installing himlip-ase"
	@$(PIP) -e .
	@touch $@

$(STAMPS)/dev: $(STAMPS)/package
	@$(PIP) -e ".[dev]"
	@touch $@

# python-sscha, the judge of our SSCHA in the tests: compiled from source, a few minutes
$(STAMPS)/sscha: $(STAMPS)/package scripts/system_packages.sh
	@PYTHON=$(BIN)/python scripts/system_packages.sh sscha
	@echo "Building python-sscha and CellConstructor (a few minutes, once)"
	@$(PIP) -e ".[sscha]"
	@touch $@

h3s: $(STAMPS)/package
	$(BIN)/python workflows/h3s_sscha.py --folder $(RUN) --resume $(H3S_FLAGS)

lint: $(STAMPS)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

# tests that need python-sscha or pw.x are skipped, and say so, where the system packages cannot be had
test: $(STAMPS)/dev
	@$(MAKE) --no-print-directory $(STAMPS)/sscha || echo "Continuing without the [sscha] extra: its tests are skipped."
	@scripts/system_packages.sh qe || echo "Continuing without Quantum ESPRESSO: its tests are skipped."
	@$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -q -m "not slow" -n $(PYTEST_PROCESSES) --dist loadfile $(PYTEST_FLAGS)

test-slow: $(STAMPS)/sscha $(STAMPS)/dev
	$(BIN)/python -m pytest -q -m slow $(PYTEST_FLAGS)

# the built wheel in an empty environment, with dependencies that pip installs: minutes
wheel-test: $(STAMPS)/dev
	PYTHON=$(BIN)/python scripts/wheel_test.sh full

# the oldest versions of the dependencies that are promised, in an environment of their own: minutes
test-oldest: $(STAMPS)/dev
	PYTHON=$(BIN)/python scripts/test_oldest.sh

docs: $(STAMPS)/package
	@$(PIP) -e ".[docs]"
	$(BIN)/python -m sphinx -W -b html docs docs/_build/html

# PAGES adds others: make docs-check PAGES=runs/h3s/report.html
docs-check: docs
	$(BIN)/python -m tests.browser docs/_build/html $(PAGES)

clean:
	rm -rf $(VENV) docs/_build build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

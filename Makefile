# `make demo` trains, tests and shows the quickstart; `make test` runs the suite. Both set up .venv first.
PYTHON ?= python3
STUDIES ?= 1200
WORKERS ?= 2
BIN := .venv/bin
QUICKSTART := --config configs/quickstart/grounding.yaml

.PHONY: setup demo test lint bench clean

setup: .venv/.installed

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make setup PYTHON=python3.12"; exit 1; }
	@# Debian parts venv from Python: without it, virtualenv does the same from a folder of its own.
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv 2>/dev/null || { \
	  $(PYTHON) -m pip install --quiet --target .bootstrap virtualenv && \
	  PYTHONPATH=.bootstrap $(PYTHON) -m virtualenv --quiet --clear .venv; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --editable '.[dev,bench]'
	@touch $@

demo: setup
	$(BIN)/medvl data twin padchest-gr data/padchest-gr-twin --studies $(STUDIES) --seed 0
	$(BIN)/medvl fit $(QUICKSTART)
	$(BIN)/medvl test $(QUICKSTART) --ckpt_path best
	$(BIN)/medvl predict $(QUICKSTART) --ckpt_path best

test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/medvl bench all

clean:
	rm -rf .bootstrap .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build dist

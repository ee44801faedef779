# `make demo` trains, tests and shows the quickstart; `make test` runs the suite. Both set up .venv first.
PYTHON ?= python3
STUDIES ?= 1200
WORKERS ?= 2
EXAMPLES ?= 20000
BIN := .venv/bin
QUICKSTART := --config configs/quickstart/grounding.yaml

SITE = $$($(1)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

# Debian parts venv from Python: without it, virtualenv does the same from a folder of its own.
define environment
$(1)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(1) 2>/dev/null || { \
  $(PYTHON) -m pip install --quiet --target .bootstrap virtualenv && \
  PYTHONPATH=.bootstrap $(PYTHON) -m virtualenv --quiet --clear $(1); }
endef

.PHONY: setup demo test fuzz lint bench bare floors audit clean

setup: .venv/.installed

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make setup PYTHON=python3.12"; exit 1; }
	$(call environment,.venv)
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

# The parsers on other random inputs than those of `make test`, and many more; what fails is printed to be kept as a test.
fuzz: setup
	OMP_NUM_THREADS=1 MEDVL_FUZZ=$(EXAMPLES) $(BIN)/pytest -n $(WORKERS) $$(find tests -name 'test_fuzz_*.py')

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/medvl bench all

# Without extras, installed as a user would: every module imports, every quickstart runs.
bare:
	$(call environment,.venv-bare)
	.venv-bare/bin/python -m pip install --quiet .
	.venv-bare/bin/python tests/support/audit.py
	OMP_NUM_THREADS=1 .venv-bare/bin/python tests/support/smoke.py

# The same with the oldest versions that pyproject.toml lets in. `make floors TORCH=here` spares gigabytes: torch and
# torchvision, and what no floor speaks of, are then those of .venv, and torch's own floor is not tried.
floors: setup
	$(call environment,.venv-floors)
	$(BIN)/python tests/support/floors.py $(if $(TORCH),--as-here torch torchvision) > .venv-floors/floors.txt
	$(if $(TORCH),echo $(call SITE,.venv) > $(call SITE,.venv-floors)/here.pth)
	.venv-floors/bin/python -m pip install --quiet --constraint .venv-floors/floors.txt --requirement .venv-floors/floors.txt .
	OMP_NUM_THREADS=1 .venv-floors/bin/python tests/support/smoke.py

# Licences and versions of what is installed, and the holes that the index knows of; fails where it cannot be asked.
audit: setup
	$(BIN)/python tests/support/audit.py
	$(call environment,.venv-audit)
	.venv-audit/bin/python -m pip install --quiet pip-audit
	$(BIN)/python -m pip freeze --exclude-editable > .venv-audit/installed.txt
	.venv-audit/bin/pip-audit --strict --progress-spinner off --no-deps --disable-pip --requirement .venv-audit/installed.txt \
	  || { echo "Above stand known holes, or a package that the index has no advisories for: nothing is taken for safe."; exit 1; }

clean:
	rm -rf .bootstrap .venv .venv-* .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build dist

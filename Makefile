# Every target does its own set-up; only Python and make are needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-compile --constraint constraints.txt

.PHONY: help install demo test test-slow check format clean

help:
	@echo "make demo       the main job on the bundled sample; writes runs/demo"
	@echo "make install    .venv with everything (offline weights, tests, peers for benchmarks)"
	@echo "make test       the default tests: no network, no GPU, no data beyond the repository"
	@echo "make test-slow  the slow ones as well"
	@echo "make check      format, lint, types, import direction, every module imports"

.venv/pyvenv.cfg:
	$(PYTHON) -m venv .venv

# One stamp per set of extras, renewed when what is wanted changes.
.venv/.installed-%: pyproject.toml constraints.txt | .venv/pyvenv.cfg
	$(PIP) --editable '.[$(subst +,$(comma),$*)]'
	@touch $@

comma := ,

install: .venv/.installed-offline+dev+bench

demo: .venv/.installed-offline
	$(BIN)/assay demo

# several processes, each with one thread: most tests are short and alone would leave cores idle
test: .venv/.installed-offline+test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

test-slow: .venv/.installed-offline+dev+bench
	$(BIN)/python -m pytest -m 'slow or not slow'

check: .venv/.installed-offline+dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	MYPYPATH=studies $(BIN)/mypy src tests studies
	MYPYPATH=benchmarks $(BIN)/mypy benchmarks
	$(BIN)/python -m pytest tests/test_layers.py tests/test_imports.py

format: .venv/.installed-offline+dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv runs build .pytest_cache .mypy_cache .ruff_cache .hypothesis

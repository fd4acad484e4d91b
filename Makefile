# The front door. Each target sets up its own virtual environment the first time;
# all it needs is Python 3.11 or newer with pip, and make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test faults lint bench serve clean
help:  ## show this help
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(READY)

setup: $(READY)  ## create .venv with outlay and all tools

demo: $(READY)  ## server, real traffic, a killed worker, an outage, exact totals
	$(BIN)/outlay demo

test: $(READY)  ## run all tests, with branch coverage
	$(BIN)/python -m pytest --cov --cov-report=term

SCALE ?= 1
faults: $(READY)  ## thousands of kills, torn files and bad servers (SCALE=10 SEED=7)
	$(BIN)/python -m tests.faults --scale $(SCALE) $(if $(SEED),--seed $(SEED))

lint: $(READY)  ## style, types and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## measure, side by side with bare floors
	$(BIN)/python -m bench

serve: $(READY)  ## run the reference server on http://127.0.0.1:4600
	$(BIN)/outlay serve

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage* htmlcov

# Entry points for people and machines. Each target installs what it needs into .venv,
# the first time and after a change of pyproject.toml. All that must be there is
# Python 3.11 or newer with pip, and make.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
SCALE ?= 1
EVENTS ?= 100000
# pip reads the settings of this machine. uv does not, but is several times as quick.
INSTALLER ?= pip

# With it, each of a thousand processes would compile all that it imports, and pytest
# would rewrite each file of tests in each of its processes.
unexport PYTHONDONTWRITEBYTECODE

BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
PARALLEL := --numprocesses $(WORKERS) --dist worksteal
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python
INSTALL := $(if $(filter uv,$(INSTALLER)),$(UV),$(PIP))

.PHONY: help setup demo service unit stores programs test coverage slow serial test-all faults lanes frameworks lint \
	format types typing sizes bench first-hour scale serve wheel docs sbom changelog clean

help:  ## show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# One environment, filled in stages: the demo need not wait for the providers' packages.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(if $(filter uv,$(INSTALLER)),$(PIP) uv)

STAGES := server test test-providers dev docs
$(STAGES:%=$(VENV)/.%): $(VENV)/.%: pyproject.toml | $(BIN)/python
	$(INSTALL) --editable '.[$*]'
	touch $@

setup: $(VENV)/.dev  ## create .venv with outlay and all tools

demo: $(VENV)/.server  ## server, real traffic, a killed worker, an outage, exact totals
	$(BIN)/outlay demo

unit: $(VENV)/.test  ## run the quick unit tests, in parallel
	$(PYTEST) $(PARALLEL) -m 'not serial and not slow' tests/unit

# The tests that need the machine for themselves run last, one after the other. To read
# all other files would take pytest a minute.
SERIAL = $$(grep -rl --include='test_*.py' mark.serial tests)

test: $(VENV)/.test-providers programs  ## run the tests
	$(PYTEST) $(PARALLEL) -m 'not serial and not slow'
	$(PYTEST) -m 'serial and not slow' $(SERIAL)

# Tracing costs three quarters of the processor time of the tests again, so it is not part
# of `make test`.
# It counts what runs in the tests' own process, and fails below `fail_under`.
coverage: $(VENV)/.test-providers programs  ## run the parallel tests, and check branch coverage
	$(PYTEST) $(PARALLEL) -m 'not serial and not slow' --cov --cov-report=term

# Not part of `make test`. Without coverage, because many of them trace by themselves.
slow: $(VENV)/.test-providers programs  ## run the tests marked `slow`, in parallel
	$(PYTEST) $(PARALLEL) --timeout 600 -m 'slow and not serial'

serial: $(VENV)/.test-providers programs  ## run all that need the machine for themselves
	$(PYTEST) --timeout 600 -m serial $(SERIAL)

stores: $(VENV)/.test programs  ## run the tests of the server over PostgreSQL and ClickHouse
	OUTLAY_TEST_STORES=1 $(PYTEST) $(PARALLEL) -k postgres tests/contract/store \
		tests/integration/test_server_http.py tests/integration/test_server_report.py
	OUTLAY_TEST_STORES=1 $(PYTEST) $(PARALLEL) -k history tests/contract/store \
		tests/integration/test_server_http.py

programs:  ## install the programs that tests need: Chromium, PostgreSQL, Redis
	@sh scripts/install_programs.sh

test-all: $(VENV)/.dev programs  ## run all: an hour (FROM=faults goes on, PARTS="lint docs")
	$(BIN)/python -m scripts.test_all $(if $(FROM),--from '$(FROM)') $(PARTS)

faults: $(VENV)/.test  ## thousands of kills, torn files and bad servers (SCALE=10 SEED=7)
	$(BIN)/python -m tests.faults --scale $(SCALE) $(if $(SEED),--seed $(SEED))

lanes: wheel  ## test the wheel: each extra, lowest versions, other Pythons (FULL=1)
	$(BIN)/python -m scripts.lanes $(if $(FULL),--full)

frameworks: wheel  ## test the wheel with frameworks, the newest and the lowest versions
	$(BIN)/python -m scripts.lanes frameworks openai2 aiobotocore tracing
	$(BIN)/python -m scripts.lanes --lowest

lint: $(VENV)/.dev  ## check style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## format the code, and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.dev  ## check types, quickly from the second time on
	$(BIN)/dmypy run

sizes:  ## list the largest classes, modules and functions (orientation, no limit)
	@$(PYTHON) -m scripts.sizes

bench: $(VENV)/.dev  ## measure, side by side with bare floors
	$(BIN)/python -m bench

first-hour:  ## play the README from a fresh environment to the first total
	@sh tests/docs/first_hour.sh

serve: $(VENV)/.server  ## run the reference server on http://127.0.0.1:4600
	$(BIN)/outlay serve

wheel: | $(BIN)/python  ## build the wheel in dist/
	rm -f dist/outlay-*.whl
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps \
		--wheel-dir dist .

service: $(VENV)/.test-providers  ## a whole product under load: kills, margins, equal totals
	$(BIN)/python examples/service/run.py

scale: $(VENV)/.test programs  ## two servers on PostgreSQL: kill -9, equal totals (EVENTS=100000)
	$(BIN)/python -m scripts.scale --events $(EVENTS)

typing: $(VENV)/.dev wheel  ## check what type checkers see of the package
	$(BIN)/python -m scripts.typing_lane

docs: $(VENV)/.docs  ## build the documentation site in docs/_build
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build

sbom: $(VENV)/.dev wheel  ## write a bill of materials to dist/sbom.json
	rm -rf .lanes/sbom
	$(BIN)/python -m venv .lanes/sbom
	.lanes/sbom/bin/python -m pip install --quiet --disable-pip-version-check \
		"$$(echo dist/outlay-*.whl)[cli,otel,pricing,server]"
	$(BIN)/cyclonedx-py environment --output-file dist/sbom.json .lanes/sbom

changelog: $(VENV)/.dev  ## collect changelog.d/ into CHANGELOG.md (VERSION=0.2.0)
	$(BIN)/towncrier build --yes --version $(VERSION)

clean:  ## remove the virtual environments and caches
	rm -rf $(VENV) .lanes dist docs/_build .mypy_cache .ruff_cache .pytest_cache
	rm -rf .import_linter_cache .coverage* htmlcov

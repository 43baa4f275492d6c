# `make demo` and `make test` each set everything up on a machine with Python 3.11+ and make.
PYTHON ?= $(shell for v in python3.13 python3.12 python3.11 python3; do \
	command -v $$v >/dev/null 2>&1 && $$v -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$v && break; done)
BIN := .venv/bin
TESTS ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage check structure ui bench crash-matrix accelerated-day connection-count memory-over-time fuzz mutations killtest pictures docs-tables lock clean

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## Make the virtual environment from the lock file

.venv/.ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; set PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Setting up .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## Run the main job end to end on the embedded sandbox exchange
	@$(BIN)/capture demo

# A module's tests share the servers that it starts, so one worker runs all of them; conftest.py puts the longest modules first.
JOBS ?= 4
WORKERS := -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Workers and the programs that tests start read the same modules: they are compiled once, also where the environment says otherwise.
test: setup ## Run all tests
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(WORKERS) $(TESTS)

coverage: setup ## Run all tests and measure branch coverage, in about twice the time
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(WORKERS) --cov --cov-report=term $(TESTS)

check: setup ## Lint, types, import contracts and Dagster definitions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --python-version 3.11
	$(BIN)/mypy --python-version 3.13
	$(BIN)/lint-imports
	VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/dg check defs

structure: setup ## Print modules, lengths, arrows and circles of the code
	@$(BIN)/python -m capture_pipeline_tests.support.structure $(ARGS)

ui: setup ## Open Dagster at http://127.0.0.1:3000; DEMO=1 shows the demo's data
	@$(BIN)/capture ui $(if $(DEMO),--demo)

bench: setup .venv-bench/.ready .venv-bench-books/.ready ## Measure speed and memory against what users do today
	@$(BIN)/python benchmarks/run.py

crash-matrix: setup ## End a small session at each of its system calls, and take it up again each time
	@CRASH_MATRIX=all $(BIN)/python -m pytest -q -s --no-cov capture_pipeline_tests/recorder/crash_matrix_test.py

accelerated-day: setup ## Record a day of the sandbox's market in minutes, twice, hit again and again; every id accounted for
	@$(BIN)/python -m capture_pipeline_tests.soak.accelerated_day $(ARGS)

connection-count: setup ## Record a quiet contract and 300 symbols, and count the connections that it took
	@$(BIN)/python -m capture_pipeline_tests.soak.connection_count $(ARGS)

memory-over-time: setup ## Look at a recorder's memory each second for 20 minutes
	@$(BIN)/python -m capture_pipeline_tests.soak.memory_over_time $(ARGS)

fuzz: setup ## Give damaged input to every parser of bytes from outside, for ten minutes; ARGS="--minutes N"
	@$(BIN)/python -m capture_pipeline_tests.soak.fuzz.run $(ARGS)

mutations: setup ## Put faults into a copy of the project and see that the tests named for them fail
	@$(BIN)/python -m capture_pipeline_tests.mutations.run $(ARGS)

docs-tables: setup ## Write docs/tables.md from the declarations of the tables
	@$(BIN)/python -m capture_pipeline.tables.page > docs/tables.md

killtest: setup ## Kill recorders and backfills at 200 random instants each, and account for every message and file
	@$(BIN)/python -m capture_pipeline_tests.soak.killtest $(ARGS)

pictures: setup ## Take the pictures of the README from the demo, in Debian's Chromium
	@$(BIN)/python -m capture_pipeline_tests.soak.pictures $(ARGS)

.venv-bench/.ready: benchmarks/requirements.lock
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r benchmarks/requirements.lock
	@touch $@

.venv-bench-books/.ready: benchmarks/books.lock
	@$(PYTHON) -m venv .venv-bench-books
	@.venv-bench-books/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r benchmarks/books.lock
	@touch $@

lock: ## Resolve the lock files anew (needs uv)
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header --no-annotate -q -o requirements.lock
	uv pip compile --group bench --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header --no-annotate -q -o benchmarks/requirements.lock
	uv pip compile --group bench-books --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header --no-annotate -q -o benchmarks/books.lock

clean: ## Remove what can be made again; never data
	rm -rf .venv .venv-bench .venv-bench-books .mypy_cache .ruff_cache .pytest_cache .coverage* build *.egg-info

# Two commands: `make nightly` runs the next night of the example, `make test` passes the tests.
# Both make the environment first; uv is used when it is there and otherwise bootstrapped with the system's Python.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
PIPELINE ?= flight_delay
ROWS ?= 100000
REPEATS ?= 3

.PHONY: help nightly install check test unit bench lock clean stop sanitize

help:            ## Show what can be made
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: .*## /\t/' | expand -t 12

nightly: $(STAMP) ## Score and publish the next night of $(PIPELINE); the first time also its history and a first model
	$(BIN)/nightscore run $(PIPELINE)

install: $(STAMP) ## Make the environment, exactly as locked

$(STAMP): requirements.lock pyproject.toml hatch_build.py $(wildcard nightscore/scoring/quickscorer*.[ch]) | $(UV)
	test -x $(BIN)/python || $(UV) venv --quiet --python '>=3.11,<3.14' $(VENV)
	$(UV) pip sync --quiet --require-hashes --compile-bytecode --python $(BIN)/python requirements.lock
	$(UV) pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	touch $@

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv

check: $(STAMP) ## Lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(STAMP) ## Only the fast tests
	$(BIN)/pytest -q tests/unit

test: check ## Everything
	$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder tests

bench: $(STAMP) ## Race other scorers over the same files, then write benchmarks/RESULTS.md; ROWS=1000000 ONLY=pandas,ray REPEATS=3
	$(BIN)/python -m benchmarks.bench --rows $(ROWS) --repeats $(REPEATS) --only "$(ONLY)" --date $$(date +%F) $(BENCH)

sanitize: $(STAMP) ## The kernel's tests under the address and undefined-behaviour sanitizers (gcc)
	tests/sanitizers/run.sh

lock: | $(UV) ## Compile requirements.lock anew from pyproject.toml
	$(UV) pip compile pyproject.toml --group dev --universal --generate-hashes --python-version 3.11 \
		--no-header --no-emit-index-url --quiet --output-file requirements.lock

stop: $(STAMP) ## Stop the embedded database; data stay
	$(BIN)/nightscore db stop

clean: ## Remove the environment; data under .nightscore stay
	rm -rf $(VENV) .uv

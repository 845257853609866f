# `make demo` and `make test` work from a fresh clone on Debian 12 with Python 3.11 or later.
# Options: PYTHON=python3.12  JOBS=4  ARGS="--keep" (demo)  ARGS="-k link" (test, quick)

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# One more than the processors: many tests wait for processes.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$(((n > 4 ? 4 : n) + 1)))
PYTEST := $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
ARGS ?=

# mkdocs-material's notice about MkDocs 2 is no concern of `mkdocs build --strict`.
export NO_MKDOCS_2_WARNING := 1
export MYPY_CACHE_DIR := .mypy_cache

STAMP := $(VENV)/.installed

.PHONY: help system venv demo test coverage quick mutants lint format types docs check-docs serve-docs bench proto schemas constraints clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

system: ## the Debian packages that the tests use (as root; skipped where they are there)
	@tools/system-packages

$(STAMP): pyproject.toml constraints.txt | system
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25'
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	! pkg-config --exists tss2-esys || CFLAGS='-O0 -g0' $(BIN)/python -m pip install --quiet -c constraints.txt tpm2-pytss || \
	  echo 'The library of TPMs could not be built; its tests are skipped.' >&2
	touch $@

venv: $(STAMP) ## .venv with everything, at the versions of constraints.txt

demo: $(STAMP) ## a hub and four institutions, a signed study, one joint analysis (ARGS=--keep leaves them running)
	$(BIN)/cohortium demo $(ARGS)

lint: $(STAMP) ## ruff, format, mypy --strict, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --cache-dir .import_linter_cache

format: $(STAMP) ## rewrite the sources in the one format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

check-docs: $(STAMP)
	$(BIN)/mkdocs build --strict --quiet --site-dir build/site

test: $(STAMP) ## everything that CI checks
	$(MAKE) --no-print-directory -j2 --output-sync=target lint check-docs
	$(PYTEST) $(ARGS)

coverage: $(STAMP) ## all tests, and which lines and branches no test ran (in the processes too; takes twice the time)
	rm -f .coverage .coverage.*
	$(PYTEST) --cov --cov-report=term $(ARGS)

quick: $(STAMP) ## the tests that take less than ten seconds each
	$(PYTEST) -m 'not slow' $(ARGS)

mutants: $(STAMP) ## take one security check of the secure sum away at a time: a test must fail (ARGS="shamir -j 4")
	$(BIN)/python -m tools.mutants $(ARGS)

docs: $(STAMP) ## the documentation in site/
	$(BIN)/mkdocs build --strict

serve-docs: $(STAMP) ## the documentation on a loopback port, rebuilt on change
	$(BIN)/mkdocs serve --dev-addr 127.0.0.1:8088

bench: $(STAMP) ## every measurement of docs/benchmarks.md
	for script in $$(grep -l __main__ benchmarks/*.py); do $(BIN)/python -m "benchmarks.$$(basename "$$script" .py)" $(ARGS); done

proto: $(STAMP) ## regenerate the link's messages from link.proto
	cd src/cohortium/link && ../../../$(BIN)/python -m grpc_tools.protoc -I. --python_out=_generated --pyi_out=_generated link.proto

schemas: $(STAMP) ## rewrite the JSON Schemas of docs/reference/schemas
	$(BIN)/python -m tools.schemas

constraints: ## resolve every dependency anew and write constraints.txt
	$(PYTHON) tools/constraints.py constraints.txt

clean: ## remove what was built
	rm -rf build dist site .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

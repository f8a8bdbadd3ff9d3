# `make demo` and `make test` set themselves up. They need git, make and Python 3.11 or newer.
# PYTHON=/path/to/python3 selects the Python; ARGS="…" passes arguments to pytest or to the benchmarks.

PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$name"; break; }; done)
BIN := .venv/bin
READY := .venv/.ready
COMPILE := $(BIN)/uv pip compile --generate-hashes --no-emit-index-url --no-header --no-annotate
MINIMUM_PYTHON := 3.11

.PHONY: help setup demo test test-all unit lint format bench docs recording requirements \
	system-packages package changelog clean

help:
	@echo "make demo             build the example's bundle, cut the network, run ten plot jobs from it"
	@echo "make test             run every test except the slow ones"
	@echo "make test-all         run every test"
	@echo "make unit             run the unit tests: no process, no network"
	@echo "make lint             run ruff, mypy, lint-imports and the word list"
	@echo "make format           format the code"
	@echo "make bench            run the benchmarks; writes docs/benchmarks.md"
	@echo "make docs             build the documentation as a site in site/, to be read offline"
	@echo "make recording        record the terminal session of README.md again"
	@echo "make requirements     resolve and pin the development tools again"
	@echo "make system-packages  install the Debian packages that the tests use"
	@echo "make package          build the sdist and the wheel into dist/ and check them"
	@echo "make changelog        print the next release's section of CHANGELOG.md"
	@echo "make setup            create .venv with every tool, pinned by hash"
	@echo "make clean            remove .venv and everything that was built"

setup: $(READY)

# Everything is pinned by hash. pip installs uv; uv installs the rest, which is faster.
# The project itself is installed last, editable, without a look-up.
$(READY): requirements-uv.txt requirements-dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python $(MINIMUM_PYTHON) or newer on PATH"; \
		echo "hint: name one: make PYTHON=/path/to/python3"; exit 1; }
	@echo "Setting up .venv with $$($(PYTHON) --version): about a minute, once"
	@echo "  1 of 3: create the environment and install uv …"
	@$(PYTHON) -m venv --clear .venv || { echo "hint: on Debian and Ubuntu, install python3-venv"; exit 1; }
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --require-hashes \
		--requirement requirements-uv.txt
	@echo "  2 of 3: fetch and install $$(grep -c '==' requirements-dev.txt) packages …"
	@VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --require-hashes --compile-bytecode \
		--requirement requirements-dev.txt
	@echo "  3 of 3: install the project …"
	@VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)
	@$(BIN)/offline-bundle demo

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow" $(ARGS)

test-all: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

unit: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile tests/unit $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_words.py

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python benchmarks/bench.py --write docs/benchmarks.md $(ARGS)

# docs/gather.py explains why the MkDocs 2 warning is off.
docs: $(READY)
	$(BIN)/python docs/gather.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Start page: site/index.html"

recording: $(READY)
	$(BIN)/python docs/record.py

# The pinned files name no index: uv and pip have their defaults.
requirements: $(READY)
	$(COMPILE) requirements-dev.in pyproject.toml --extra keyring --extra attestations --universal \
		--python-version $(MINIMUM_PYTHON) --upgrade --output-file requirements-dev.txt
	$(COMPILE) pyproject.toml --constraint requirements-dev.txt --universal \
		--python-version $(MINIMUM_PYTHON) --upgrade --output-file requirements.txt
	$(COMPILE) requirements-runtime.in --universal --python-version 3.9 --upgrade \
		--output-file requirements-runtime.txt
	grep '^uv==' requirements-dev.txt | tr -d ' \\' | $(COMPILE) - --output-file requirements-uv.txt

# Before `make setup`: .ci/run installs these packages first.
system-packages:
	@$(or $(PYTHON),python3) tools/system_packages.py $(ARGS)

# --no-isolation: the build uses the pinned hatchling of .venv.
package: $(READY)
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist
	$(BIN)/twine check --strict dist/*

changelog: $(READY)
	@$(BIN)/towncrier build --draft --version next

clean:
	rm -rf .venv build dist site demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage*

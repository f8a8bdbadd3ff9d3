# `make demo` and `make test` set themselves up: they need git, make and a Python of 3.11 or newer, and nothing else.
# PYTHON=… names the Python to use.

PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$name"; break; }; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test test-all lint format bench docs recording requirements clean

help:
	@echo "make demo      build a bundle of examples/python_uv/eval.py, cut the network, run ten plot jobs from it"
	@echo "make test      every test but the slow ones, with coverage"
	@echo "make test-all  the slow ones too"
	@echo "make lint      ruff and mypy"
	@echo "make bench     the benchmarks, side by side; writes docs/benchmarks.md"
	@echo "make docs      the documentation as a site, in site/; opens from there, without a network"
	@echo "make recording README's picture of a terminal anew, from a real run"

setup: $(READY)

# Everything is pinned by hash. pip brings uv, and uv the rest, which is faster; the project itself comes on top, editable,
# without looking anything up.
$(READY): requirements-uv.txt requirements-dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python of 3.11 or newer on PATH; name one: make PYTHON=/path/to/python3"; exit 1; }
	@echo "Setting up .venv with $$($(PYTHON) --version) …"
	@$(PYTHON) -m venv --clear .venv || { echo "hint: on Debian and Ubuntu, venv is the package python3-venv"; exit 1; }
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-uv.txt
	@VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --require-hashes --compile-bytecode --requirement requirements-dev.txt
	@VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)
	@$(BIN)/offline-bundle demo

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow" $(ARGS)

test-all: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python benchmarks/bench.py --write docs/benchmarks.md $(ARGS)

# The banner about the future of MkDocs is answered in docs/gather.py.
docs: $(READY)
	$(BIN)/python docs/gather.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

recording: $(READY)
	$(BIN)/python docs/record.py

# Without the names of the index: uv and pip know their defaults.
requirements: $(READY)
	$(BIN)/uv pip compile requirements-dev.in pyproject.toml --extra embedded --extra keyring --extra pip-tools --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --upgrade --output-file requirements-dev.txt
	$(BIN)/uv pip compile pyproject.toml --constraint requirements-dev.txt --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --upgrade --output-file requirements.txt
	grep '^uv==' requirements-dev.txt | tr -d ' \\' | $(BIN)/uv pip compile - --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --output-file requirements-uv.txt

clean:
	rm -rf .venv build site demo .pytest_cache .mypy_cache .ruff_cache .coverage*

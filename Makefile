# Two commands for a newcomer, make demo and make test, and what contributors need.
# Each sets up .venv first, once; it is set up anew when pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check bench docs format clean distclean

help:
	@echo "make demo       set up, then train on MovieLens 100K and recommend (at most 20 minutes on 2 cores)"
	@echo "make test       set up, then run the tests"
	@echo "make bench      measure every claim of speed, and write runs/bench/table.md"
	@echo "make docs       build the documentation site into build/docs"
	@echo "make check      lint, formatting, types, layering"
	@echo "make format     format the code"
	@echo "make clean      remove caches and build output; keeps .venv and runs/"
	@echo "make distclean  remove .venv too"
	@echo "PYTHON=python3.12 make demo   chooses another Python, 3.11 or newer"

demo: $(VENV)/.installed
	$(BIN)/storerec demo

# Tests of Ray come after the others and one by one: each starts a cluster of many processes, which want the cores. Where
# the machine was too slow for one of these, its tests are run once more; a fault of ours fails again.
SCALE := $(BIN)/python -m pytest -o cache_dir=build/pytest tests/scale

test: $(VENV)/.installed-dev
ifdef ARGS
	$(BIN)/python -m pytest -p no:cacheprovider -n auto --dist loadfile $(ARGS)
else
	$(BIN)/python -m pytest -p no:cacheprovider -n auto --dist loadfile --ignore tests/scale
	$(SCALE) || $(SCALE) --last-failed
endif

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

BENCHMARKS := beam_search clustering cold_start encoding precision recommender_training scoring start_up \
	tokenizer_training tree_scale
OUT ?= runs/bench

bench: $(VENV)/.installed-dev
	for name in $(BENCHMARKS); do \
		MALLOC_MMAP_MAX_=0 $(BIN)/python -m benchmarks.$$name --out $(OUT) $(ARGS) || exit 1; done
	$(BIN)/python -m benchmarks.table --out $(OUT)

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The environment is an order-only need: its python is a link whose date says nothing.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "storerec needs Python 3.11 or newer; choose one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[docs]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-docs

clean:
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find src tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)

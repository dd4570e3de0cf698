PYTHON ?= python3
PIP_FLAGS ?=
BIN := .venv/bin
BENCHMARKS := $(addprefix benchmarks/,step_time.py compilation.py decoding.py peers.py engine_overhead.py)
REFERENCE = $(sort $(notdir $(patsubst %/,%,$(dir $(wildcard reports/*/*.tar.xz)))))
PIP_INSTALL = $(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints/constraints.txt

.DEFAULT_GOAL := help
.PHONY: setup demo reference test test-slow test-tracking test-gpu check bench docs metrics clean help

setup: .venv/.installed  ## make .venv with the package (editable) and the developer's tools

demo: setup  ## run the quickstart search into runs/quickstart, evaluate and report it
	$(BIN)/modsearch search quickstart --out runs/quickstart

reference: setup  ## compile the published studies in reports/ from their records into runs/reference
	@set -e; for study in $(REFERENCE); do \
	    $(BIN)/modsearch report $$(ls reports/$$study/*.tar.xz) --out runs/reference/$$study; done

test: setup  ## run the fast tests, a file at a time on each core
	$(BIN)/pytest -q -m "not slow and not gpu" -n logical --maxprocesses 4 \
	    --dist loadscope --no-loadscope-reorder

test-slow: setup  ## run the slow tests
	$(BIN)/pytest -q -m slow

test-tracking: setup  ## install the experiment trackers (1 GB) and run the tests that need them
	$(PIP_INSTALL) tensorboard wandb mlflow trackio
	$(BIN)/pytest -q -rs tests/study/test_tracking.py

test-gpu: setup  ## run the tests that need a CUDA device
	$(BIN)/pytest -q -rs -m gpu tests/training/test_gpu.py tests/testing/test_gpu_conformance.py

check: setup  ## check format, lint and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy --strict modsearch

bench: setup  ## run the speed benchmarks, against other libraries too (half an hour, 2 GB)
	@set -e; for script in $(wildcard $(BENCHMARKS)); do echo "== $$script"; $(BIN)/python $$script; done

docs: setup  ## write docs/space.md from the models
	$(BIN)/python -m modsearch.space.reference > docs/space.md

metrics: setup  ## print size and style figures of the code
	$(BIN)/python benchmarks/metrics.py

clean:  ## remove caches and build outputs; runs/ and .venv stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -path ./.venv -prune -o -path ./runs -prune -o -type d -name __pycache__ -exec rm -rf {} +

help:  ## show this list
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The marker is removed first and written last, so a failed or broken-off install leaves none.
# torch comes first and by pip itself: pip's own configuration decides between CPU and CUDA builds,
# and what follows keeps the build that is there.
.venv/.installed: pyproject.toml constraints/constraints.txt
	@rm -f $@
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit( \
	    f"modsearch needs Python 3.11 or newer, but {sys.executable} is {v.major}.{v.minor}\n" \
	    "hint: make setup PYTHON=python3.12")'
	@echo "installing into .venv; the first time takes a few minutes"
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) -e ".[dev,postgres]"
	@touch $@

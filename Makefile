# Needs only python3 (3.11 or newer, with venv) and make. Each step leaves a stamp in $(VENV), so a
# second call does nothing that is already done.

PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch==2.13.0
DEMO   ?= demo_out
# Extra options for pytest: make test PYTEST_ARGS="tests/maths -x"
PYTEST_ARGS ?= -n auto --dist worksteal

BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check
SCAN := src/ddmseg/demo/colin27_t1.nii.gz

.PHONY: help demo test check format docs bench clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

$(VENV)/.venv-stamp:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ddmseg needs Python 3.11 or newer; name one: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch first and pinned: it is the large download, and a change of pyproject.toml keeps it.
$(VENV)/.torch-stamp: $(VENV)/.venv-stamp
	$(PIP) install '$(TORCH)'
	@touch $@

$(VENV)/.package-stamp: $(VENV)/.torch-stamp pyproject.toml
	$(PIP) install '$(TORCH)' --editable .
	@touch $@

$(VENV)/.dev-stamp: $(VENV)/.torch-stamp pyproject.toml
	$(PIP) install '$(TORCH)' --editable '.[dev]'
	@touch $@ $(VENV)/.package-stamp

demo: $(VENV)/.package-stamp  ## segment the bundled scan with the shipped weights
	$(BIN)/ddmseg segment $(SCAN) -o $(DEMO) --overwrite
	@echo "The report: $(abspath $(DEMO))/colin27_t1_report.html"

test: $(VENV)/.dev-stamp  ## run the tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.dev-stamp  ## lint, types and floors; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev-stamp  ## put the code in shape
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(VENV)/.dev-stamp  ## write the API pages to docs/api
	$(BIN)/pdoc --docformat google --output-directory docs/api ddmseg

# Options for ddmseg bench: make bench BENCH_ARGS="--threads 2 --peers samseg,deepbet"
# Leave the machine alone meanwhile. DDMSEG_DATA is needed for synthesis; without it segment leaves
# out the hippocampus crop, and quantisation and budget have no truth to hold answers against.
# Quantisation takes some ten minutes, budget half an hour; both, and bench, go on where they stopped.
bench: $(VENV)/.dev-stamp  ## measure speed on this machine; DDMSEG_DATA names the data folder
	$(BIN)/ddmseg bench $(BENCH_ARGS)
	$(BIN)/python -m benchmarks.speed.segment
	$(BIN)/python -m benchmarks.speed.synthesis
	$(BIN)/python -m benchmarks.speed.memory
	$(BIN)/python -m benchmarks.speed.quantisation
	$(BIN)/python -m benchmarks.speed.budget
	$(BIN)/ddmseg report

clean:  ## remove the environment and what the commands wrote
	rm -rf $(VENV) $(DEMO) docs/api

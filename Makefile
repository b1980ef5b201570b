# Needs only python3 (3.11 or newer, with venv) and make. Each step leaves a stamp in $(VENV), so a
# second call does nothing that is already done.

PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch==2.13.0
DEMO   ?= demo_out
# Extra options for pytest: make test-product PYTEST_ARGS="tests/maths -x"
PYTEST_ARGS ?= -n auto --dist worksteal

BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check
SCAN := src/ddmseg/demo/colin27_t1.nii.gz

.PHONY: help demo test test-product test-lab check format site docs manifest bench clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

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

# With the laboratory, which demo does without.
$(VENV)/.dev-stamp: $(VENV)/.torch-stamp pyproject.toml lab/pyproject.toml
	$(PIP) install '$(TORCH)' --editable '.[dev]' --editable ./lab
	@touch $@ $(VENV)/.package-stamp

demo: $(VENV)/.package-stamp  ## segment the bundled scan with the shipped weights
	$(BIN)/ddmseg segment $(SCAN) -o $(DEMO) --overwrite
	@echo "The report: $(abspath $(DEMO))/colin27_t1_report.html"

# Both run even when the first fails, so that one call shows everything there is to mend.
test: $(VENV)/.dev-stamp  ## run the tests of the product, then those of the laboratory
	@status=0; \
	$(MAKE) test-product || status=$$?; \
	$(MAKE) test-lab || status=$$?; \
	exit $$status

test-product: $(VENV)/.dev-stamp  ## run the tests of the product
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-lab: $(VENV)/.dev-stamp  ## run the tests of the laboratory
	$(BIN)/python -m pytest lab $(PYTEST_ARGS)

check: $(VENV)/.dev-stamp  ## lint, types, floors and links of both; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) site

format: $(VENV)/.dev-stamp  ## put the code in shape
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# Laid side by side as in the clone, so that links between pages hold; a dead one fails.
site: $(VENV)/.dev-stamp
	rm -rf build/site_src && mkdir -p build/site_src/lab
	cp -r README.md CONTRIBUTING.md CHANGELOG.md LICENSE CITATION.cff Makefile configs docs build/site_src
	cp -r lab/README.md lab/docs lab/configs build/site_src/lab
	$(BIN)/mkdocs build --quiet --strict

docs: site  ## write the site with the API pages to build/site
	$(BIN)/pdoc --docformat google --output-directory build/site/api ddmseg ddmseg_lab

manifest: $(VENV)/.package-stamp  ## write the hashes of the shipped weights, after a change of them
	$(BIN)/python -m ddmseg.models.manifest

# Options for ddmseg bench: make bench BENCH_ARGS="--threads 2 --peers samseg,deepbet"
# Leave the machine alone meanwhile. DDMSEG_DATA is needed for synthesis and quantisation; without
# it segment leaves out the hippocampus crop. Quantisation and bench go on where they stopped.
bench: $(VENV)/.dev-stamp  ## measure speed on this machine; DDMSEG_DATA names the data folder
	$(BIN)/ddmseg bench $(BENCH_ARGS)
	$(BIN)/python -m ddmseg_lab.speed.segment
	$(BIN)/python -m ddmseg_lab.speed.synthesis
	$(BIN)/python -m ddmseg_lab.speed.memory
	$(BIN)/python -m ddmseg_lab.speed.quantisation
	$(BIN)/ddmseg report

clean:  ## remove the environment and what the commands wrote
	rm -rf $(VENV) $(DEMO) build

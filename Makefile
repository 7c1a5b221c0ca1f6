# Two commands do everything on a fresh machine: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
QUICK ?= runs/quickstart
export OMP_NUM_THREADS ?= 1
TEST_JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile

.PHONY: help setup quickstart test test-slow test-cuda results lint types check docs audit sbom release-check clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.user: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[qm9,report]"
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

$(VENV)/.data: $(VENV)/.dev tests/tools/install_data.sh
	bash tests/tools/install_data.sh $(BIN)/equipoise
	@touch $@

setup: $(VENV)/.dev  ## Create .venv with everything that developers need

quickstart: $(VENV)/.user  ## Install, then balance 11 tasks on real molecules and write a report (15 minutes on 2 cores)
	$(BIN)/equipoise bench qm9 --preset quick --out $(QUICK) --resume

test: $(VENV)/.data  ## Run the default test suite (under 10 minutes on 2 cores)
	bash tests/tools/install_chromium.sh
	$(PYTEST)

test-slow: $(VENV)/.data  ## Run the tests that take minutes
	bash tests/tools/install_chromium.sh
	$(PYTEST) -m slow

results: $(VENV)/.data  ## Run the comparisons of docs/results again, hours; MINUTES=50 works so long, and again goes on
	$(BIN)/python benchmarks/results.py $(if $(MINUTES),--minutes $(MINUTES))

test-cuda: $(VENV)/.dev  ## Run the tests that need a CUDA device; without one, say so and end
	$(BIN)/python -m pytest -m cuda -rs tests/cuda

lint: $(VENV)/.dev  ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev  ## Check types
	$(BIN)/mypy

check: lint types test  ## Style, types and the default tests

docs: $(VENV)/.dev  ## Build the site into site/, offline, with warnings as errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html; to look at it with search: $(BIN)/python -m http.server -d site"

audit: $(VENV)/.dev  ## Check that what is installed is pinned and consistent, and look the pins up where a service can be reached
	$(BIN)/python tests/tools/audit.py

sbom: $(VENV)/.dev  ## Write sbom.json, what this environment is made of (CycloneDX)
	$(BIN)/python tests/tools/sbom.py

release-check: $(VENV)/.dev  ## Build wheel and sdist, install each extra into an empty environment (half an hour)
	$(BIN)/python tests/tools/extras.py

clean:  ## Remove what the tools leave behind; runs and the virtual environment stay
	rm -rf site .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist src/*.egg-info

# Every target makes the virtual environment it needs; nothing has to be activated or exported.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export TOKENIZERS_PARALLELISM := false

.PHONY: help install demo soak test test-all format lint types imports docs docs-check smoke compat check clean

help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP) ## Make the virtual environment and install tabom with its tools

$(STAMP): pyproject.toml .ci/constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing tabom and its dependencies into $(VENV) (some minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' .ci/constraints.txt)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint .ci/constraints.txt --editable ".[dev]"
	@touch $(STAMP)

demo: $(STAMP) ## See TABOM happen: distil, train, evaluate and measure a small model (under 8 minutes)
	@$(BIN)/python benchmarks/demo.py

soak: $(STAMP) ## Kill a distillation of 5,000 prompts 20 times and compare it with an undisturbed one
	@$(BIN)/python benchmarks/soak.py

test: $(STAMP) ## Run the tests (without the slow, GPU and network ones)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-all: $(STAMP) ## Run the slow tests too, on real benchmarks with TABOM_DATA_DIR=DIR
	$(BIN)/python -m pytest -m "not gpu and not network"

format: $(STAMP) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(STAMP) ## Check format and style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP) ## Check types
	$(BIN)/mypy

imports: $(STAMP) ## Check that imports go downwards only
	$(BIN)/lint-imports

docs: $(STAMP) ## Write command help and recipe keys into README.md
	$(BIN)/python -m cogapp -r README.md

docs-check: $(STAMP) ## Fail when README.md is behind the code
	$(BIN)/python -m cogapp --check README.md

smoke: $(STAMP) ## Start the command line
	$(BIN)/tabom --version
	$(BIN)/tabom recipes list

compat: $(STAMP) ## Test the model files with the oldest supported transformers and peft (two minutes)
	.ci/compat

check: lint types imports docs-check smoke compat ## Everything that CI runs
	$(MAKE) test PYTEST_ARGS="--cov --cov-report=term:skip-covered --cov-fail-under=90"

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage

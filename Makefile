.DEFAULT_GOAL := help
.PHONY: help setup requirements demo test test-slow check format train-mini bench build clean

PYTHON ?= python3.12
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# One thread per process: the tests and the evaluation use processes; software rendering; never a hub at run time.
export OMP_NUM_THREADS ?= 1
export MUJOCO_GL ?= egl
export HF_HUB_OFFLINE ?= 1

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: $(STAMP) ## make .venv if it is missing or stale, then check the machine
	@$(BIN)/emu-robot doctor

$(STAMP): pyproject.toml requirements.txt
	@command -v $(PYTHON) >/dev/null || { echo "missing: Python 3.12. Get it: apt-get install python3.12 python3.12-venv (or uv python install 3.12)"; exit 1; }
	@$(PYTHON) -m emu_robot.doctor --install-size
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "missing: the venv module. Get it: apt-get install python3.12-venv"; exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install -qq uv
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -r requirements.txt
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

requirements: ## bring requirements.txt in line with pyproject.toml, keeping the pins that still fit
	$(BIN)/uv pip compile -q --python-version 3.12 --extra dev --extra train --extra emu35 --no-emit-index-url --no-emit-find-links \
	  --no-header --no-annotate pyproject.toml -o requirements.txt
	@sed -i '1i # Exact versions for development, the demo and the tests, by `make requirements`. Install with --no-deps.' requirements.txt

demo: setup ## long-horizon episodes with the released weights; prints the success line and the report's path
	$(BIN)/emu-robot demo

test: $(STAMP) ## every fast test, two processes
	$(BIN)/pytest -n 2 -m "not slow"

test-slow: $(STAMP) ## every test
	$(BIN)/pytest -n 2

check: $(STAMP) ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(STAMP) ## rewrite the code in the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train-mini: setup ## collect, train tokenizer, planner and head, release; resumes where it was stopped
	$(BIN)/emu-robot train-mini

bench: setup ## environment steps per second of one core
	$(BIN)/emu-robot sim bench

build: $(STAMP) ## wheel and source archive in dist/
	$(BIN)/uv build -q --no-build-isolation --out-dir dist .
	@ls -lh dist

clean: ## remove build products and caches, keep .venv and outputs
	rm -rf dist .pytest_cache .ruff_cache

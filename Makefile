.DEFAULT_GOAL := help
.PHONY: browser help setup requirements ros ros-demo demo test test-slow check format train-mini train-mini2 bench build clean

PYTHON ?= python3.12
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ROS := .venv-ros
ROS_STAMP := $(ROS)/.built

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
	$(BIN)/uv pip compile -q --python-version 3.12 --extra dev --extra train --extra emu35 --extra teleop --extra arms --extra spacemouse --extra tracking --extra ray --no-emit-index-url --no-emit-find-links \
	  --no-header --no-annotate pyproject.toml -o requirements.txt
	@sed -i '1i # Exact versions for development, the demo and the tests, by `make requirements`. Install with --no-deps.' requirements.txt

ros: $(ROS_STAMP) ## make .venv-ros: ROS 2 Jazzy from wheels, our interfaces and nodes; no ROS installation needed

$(ROS)/.wheels: ros_ws/requirements.txt $(STAMP)
	@test -x $(ROS)/bin/python || $(PYTHON) -m venv --without-pip $(ROS)
	$(BIN)/uv pip install -q --python $(ROS)/bin/python --no-deps -r ros_ws/requirements.txt
	@touch $@

$(ROS_STAMP): $(ROS)/.wheels ros_ws/without_ros.py $(shell find ros_ws/src/emu_robot_interfaces ros_ws/without_ros -type f)
	$(PYTHON) ros_ws/without_ros.py $(ROS) --also $(VENV)/lib/python3.12/site-packages
	@touch $@

ros-demo: $(ROS_STAMP) ## one task through the ROS 2 graph: simulated arm, planner, policy, gate; writes MCAP and video
	$(ROS)/bin/python -m emu_robot_ros.demo

demo: setup ## long-horizon episodes with the released weights; prints the success line and the report's path
	$(BIN)/emu-robot demo

browser: # Chromium, for the tests of the pages; root gets it here, others are told
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq chromium; } >/dev/null 2>&1 || \
	  echo "missing: chromium; the tests of the pages are left out. Get it: apt-get install chromium"

test: $(STAMP) $(ROS_STAMP) browser ## every fast test, two processes; those of the nodes with real ROS 2
	$(BIN)/pytest -n 2 -m "not slow"
	$(ROS)/bin/python -m pytest tests/ros -m "not slow"

test-slow: $(STAMP) $(ROS_STAMP) browser ## every test
	$(BIN)/pytest -n 2
	$(ROS)/bin/python -m pytest tests/ros

check: $(STAMP) $(ROS_STAMP) ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/pyright -p ros_ws/pyrightconfig.json --pythonpath $(ROS)/bin/python

format: $(STAMP) ## rewrite the code in the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train-mini: setup ## collect, train tokenizer, planner and head, release; resumes where it was stopped
	$(BIN)/emu-robot train-mini

train-mini2: setup ## the same for the weights of tabletop2, which go on from mini
	$(BIN)/emu-robot train-mini mini2

bench: setup ## environment steps per second of one core
	$(BIN)/emu-robot sim bench

build: $(STAMP) ## wheel and source archive in dist/
	$(BIN)/uv build -q --no-build-isolation --out-dir dist .
	@ls -lh dist

clean: ## remove build products and caches, keep .venv and outputs
	rm -rf dist .pytest_cache .ruff_cache .hypothesis

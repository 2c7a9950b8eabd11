# One command each; `make help` lists them. Every target sets up what it needs.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench sim sim-planted chaos soak services clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(READY)  ## virtual environment with the pinned dependencies

demo: $(READY)  ## the story: 2,000 households, 30 days, on embedded parts
	$(BIN)/meterd demo

# A missing part is a failure with CI=true; else its tests are skipped, and the end of the run says which and why.
test: $(READY)  ## all tests; those whose part cannot be had are skipped by name (none with CI=true)
	@sh tools/services.sh || { echo "make test: a part is missing; its tests are skipped, with CI=true they fail" >&2; [ "$$CI" != true -a "$$CI" != 1 ]; }
	$(BIN)/python -m meterd.warm
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(READY)  ## lint, format, types, layers, house rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/tidy -q

bench: $(READY)  ## benchmarks into benchmarks/results/latest.json and the tables (ONLY=name for one)
	-@sh tools/services.sh bench
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

sim: $(READY)  ## one history of the simulated world (SEED=n), or many (SEEDS=1..2000)
	$(BIN)/meterd sim $(if $(SEEDS),--seeds $(SEEDS) --jobs 2,--seed $(or $(SEED),1))

sim-planted: $(READY)  ## break the code on purpose, fault by fault, and see the simulated world find each
	$(BIN)/meterd sim --planted all --seeds 1..200 --jobs 2 --table docs/planted-faults.md

chaos: $(READY)  ## 1,000 kills at random moments and at named steps, then checker and audit
	$(BIN)/python -m pytest tests/chaos -m chaos -q

soak: $(READY)  ## half an hour at twenty times a city's load: exit 1 when memory or disk grows
	$(BIN)/python -m benchmarks.soak

services:  ## install Mosquitto, libfiu and libfaketime (Debian packages) where they are missing
	sh tools/services.sh

clean:  ## remove what the targets made
	rm -rf $(VENV) demo-out load-out soak-out .pytest_cache .mypy_cache .ruff_cache .hypothesis

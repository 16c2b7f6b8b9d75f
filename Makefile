# A few verbs; `make help` lists them. Each works in a fresh clone with only Python, make and a package index:
# it makes the environment it needs (.venv) once, and again when pyproject.toml or the constraints change.

PYTHON ?= python3
CONFIG ?= examples/quickstart/server.yaml
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PROTOC_VENV := .protoc-venv
CONSTRAINTS := constraints/newest.txt
INSTALL := $(BIN)/python -m pip install --constraint $(CONSTRAINTS)
SAY = @printf '\n\033[1m== %s\033[0m\n'

export PIP_DISABLE_PIP_VERSION_CHECK := 1
.DELETE_ON_ERROR:
# Two installations into one environment at a time would spoil it.
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo test check fmt protos serve model

help: ## show this list
	@echo "make VERB   (PYTHON=python3.12 to choose the interpreter for a new environment)"
	@echo
	@sed -n 's/^\([a-z]*\):.*## /  \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-9s %s\n", $$1, $$2 }'

demo: $(VENV)/.demo-stamp ## train a small model against a reward server, on a CPU, in about ten minutes
	@$(BIN)/python examples/quickstart/demo.py

test: $(VENV)/.dev-stamp model ## run the whole suite; ARGS="-m 'not end_to_end'" passes options to pytest
	$(SAY) "pytest"
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev-stamp $(PROTOC_VENV)/.stamp ## lint, format, types, import contracts, generated code
	$(SAY) "ruff"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(SAY) "mypy"
	$(BIN)/mypy
	$(SAY) "import contracts"
	$(BIN)/lint-imports
	$(SAY) "generated code"
	$(PROTOC_VENV)/bin/python protos/generate.py --check

fmt: $(VENV)/.dev-stamp ## format and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(PROTOC_VENV)/.stamp ## regenerate the code beside reward.proto
	$(PROTOC_VENV)/bin/python protos/generate.py

serve: $(VENV)/.demo-stamp model ## run the reward server; CONFIG=path/to/server.yaml
	$(BIN)/reward-server serve --config $(CONFIG)

model: $(VENV)/.demo-stamp ## fetch the small model of demo and tests, once
	@$(BIN)/python examples/quickstart/get_model.py

# --- environments -----------------------------------------------------------------------------------------------------

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
	  echo "This needs Python 3.11, 3.12 or 3.13, and '$(PYTHON)' is: $$(command -v $(PYTHON) >/dev/null && $(PYTHON) --version 2>&1 || echo not there)."; \
	  echo "Name another one, for example: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(SAY) "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "'$(PYTHON) -m venv' failed. On Debian and Ubuntu it is a package of its own: apt install python3-venv"; exit 1; }
	@touch $@

$(VENV)/.demo-stamp: $(VENV)/.made pyproject.toml $(CONSTRAINTS)
	$(SAY) "installing server and trainer into $(VENV): some minutes on the first run, most of it PyTorch"
	$(INSTALL) --editable '.[embedded,trainer]'
	@touch $@

$(VENV)/.dev-stamp: $(VENV)/.made pyproject.toml $(CONSTRAINTS)
	$(SAY) "installing server, trainer and development tools into $(VENV): some minutes on the first run, most of it PyTorch"
	$(INSTALL) --editable '.[dev]'
	@touch $(VENV)/.demo-stamp $@

$(PROTOC_VENV)/.stamp: constraints/protoc.txt | $(VENV)/.made
	$(SAY) "making $(PROTOC_VENV), the compiler of the contract"
	$(BIN)/python -m venv --clear $(PROTOC_VENV)
	$(PROTOC_VENV)/bin/python -m pip install --requirement constraints/protoc.txt
	@touch $@

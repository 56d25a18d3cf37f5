# Needs Python 3.11 or newer and make. `make` alone lists what there is.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# What is installed for use, and what is installed for development; both are redone when pyproject.toml changes.
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help demo test slow soak real bench lint format types wheel ci clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

demo: $(RUN)  ## two namespaces, a handler, a caller: one durable call, shown as a trace
	@$(BIN)/nexus demo

test: $(DEV)  ## every test that is not slow
	@$(BIN)/python -m pytest -q -n 3 --dist worksteal -m "not slow and not soak" $(ARGS)

slow: $(DEV)  ## the tests marked slow
	@$(BIN)/python -m pytest -q -m "slow and not soak" $(ARGS)

soak: $(DEV)  ## the tests marked soak, and 100 rounds of the crash tests
	@NEXUSKIT_CRASH_ROUNDS=$${NEXUSKIT_CRASH_ROUNDS:-100} $(BIN)/python -m pytest -q -k "soak or crash" $(ARGS)

real: $(DEV)  ## the behaviour tests against a real Temporal server (NEXUSKIT_TEMPORAL=host:port, or its program on PATH)
	@$(BIN)/python -m pytest -q tests/backend tests/teams --server real -m "not soak" $(ARGS)

bench: $(DEV)  ## load on the embedded backend, beside a real server where there is one; see docs/performance.md
	@$(BIN)/python -m benchmarks.compare $(ARGS)

lint: $(DEV)  ## ruff (rules and format) and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

format: $(DEV)  ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(DEV)  ## basedpyright, strict
	$(BIN)/basedpyright

wheel: $(DEV)  ## build the wheel, and run it in an empty environment
	@set -eu; \
	tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	$(BIN)/python -m build --wheel --outdir "$$tmp/dist" . ; \
	$(BIN)/python -m venv "$$tmp/venv"; \
	"$$tmp/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$$tmp"/dist/*.whl; \
	cd "$$tmp"; \
	venv/bin/nexus --help; \
	venv/bin/nexus demo

ci:  ## everything that .ci/run runs
	@.ci/run

clean:  ## remove what make made
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(RUN): pyproject.toml
	@$(VENV_READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(DEV): pyproject.toml
	@$(VENV_READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(RUN) $@

# A usable environment that is already there is kept, however it was made.
OLD_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
define VENV_READY
if $(BIN)/python -c '$(OLD_ENOUGH)' 2>/dev/null && $(BIN)/python -m pip --version >/dev/null 2>&1; then exit 0; fi; \
if ! command -v $(PYTHON) >/dev/null; then \
	echo "There is no '$(PYTHON)' here. nexuskit needs Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; fi; \
if ! $(PYTHON) -c '$(OLD_ENOUGH)'; then \
	echo "nexuskit needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1): make PYTHON=/path/to/python3" >&2; exit 1; fi; \
echo "Making $(VENV) with $$($(PYTHON) -V 2>&1)"; \
$(PYTHON) -m venv --clear $(VENV)
endef

# FLEET-Q. `make` alone prints this help.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PORT ?= 8501

.PHONY: help setup browser run test test-snowflake lint bench simulate chaos outage screenshots clean

help: ## print this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv and install the pinned requirements

$(STAMP): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("FLEET-Q needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

browser: setup # a browser for the browser tests: Debian's chromium as root on Debian, else Playwright's own
	@if command -v chromium >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	else $(BIN)/python -m playwright install chromium; fi

run: setup ## serve the dashboard with one live pod on http://localhost:8501
	$(BIN)/python -m streamlit run app.py --server.port $(PORT)

# In the order of the tree: the longest files come first there, so that no process waits for the other in the end.
test: setup browser ## run all tests, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-snowflake: setup ## run the contract on the Snowflake account of the environment (docs/snowflake.md)
	@$(BIN)/python -m tests.support.account
	FLEETQ_TEST_ACCOUNT=1 $(BIN)/python -m pytest -m account --timeout 1800 tests/contract tests/faults/test_snowflake.py

lint: setup ## format, lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: setup ## measure speed and memory against the peers (some minutes)
	$(BIN)/python -m benchmarks

simulate: setup ## play 10,000 seeded histories of a fleet under faults, some twenty minutes
	FLEETQ_SIM_HISTORIES=10000 $(BIN)/python -m pytest -s tests/simulation/test_simulation.py -k promises

chaos: setup ## break a fleet of real pods at random for five minutes and check that nothing is lost
	FLEETQ_CHAOS_S=300 $(BIN)/python -m pytest -s tests/chaos

outage: setup ## take Snowflake (the emulator) away from a fleet for a minute
	FLEETQ_OUTAGE_S=60 $(BIN)/python -m pytest -s tests/faults/test_snowflake_fleet.py -k "outlives or later"

screenshots: setup browser ## take the pictures of README anew, from a live fleet
	$(BIN)/python -m tests.browser.screenshots docs/images

clean: ## remove the virtual environment and this machine's queue
	rm -rf $(VENV) .fleetq

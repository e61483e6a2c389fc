# One target a task; `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help demo check unit test crash bench scenarios docs lab clean fuzz fuzz-alerts screenshots

BIN := .venv/bin

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## a real saturated PostgreSQL, diagnosed and healed in front of you
	@tools/venv.sh drill
	@$(BIN)/runbook drill saturation --auto

check: ## format, lint, types, import contracts
	@tools/venv.sh drill,dev
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check .; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo 2>&1 | tail -n 3; exit $${PIPESTATUS[0]}

unit: ## the quick tests, to be run all the time: no Docker, under a minute
	@tools/venv.sh drill,dev
	@$(BIN)/pytest -n 2 --dist loadfile -m "not slow" tests/unit

test: ## all tests, on real hosts: sets up Docker and the lab where it can
	@tools/venv.sh drill,dev,scenarios,browser
	@PYTHONPATH=tests $(BIN)/python -m lab.docker_engine
	@PYTHONPATH=tests $(BIN)/python -m browser.chromium
	@$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder tests

crash: ## kill a rolling restart at every journal event, cut it off, resume; kill serve 60 times
	@tools/venv.sh drill,dev
	@PYTHONPATH=tests $(BIN)/python -m lab.docker_engine
	@RUNBOOK_CRASH_SWEEP=1 $(BIN)/pytest tests/lab/test_crash.py tests/lab/test_cut_off.py
	@RUNBOOK_CRASH_SWEEP=1 $(BIN)/pytest tests/unit/serve/test_killed_again_and_again.py

scenarios: ## accuracy of the diagnosis on PostgreSQL 13 to 18, written to docs/accuracy.md
	@tools/venv.sh drill,dev,scenarios
	@PYTHONPATH=tests $(BIN)/python -m scenarios

bench: ## speed and memory against peers and floors, written to bench/results/
	@tools/venv.sh drill,dev
	@PYTHONPATH=tests:. $(BIN)/python -m bench

fuzz: ## 100,000 broken playbooks through the reader: an error or a plan, never a traceback
	@tools/venv.sh drill,dev
	@PYTHONPATH=tests $(BIN)/python -m fuzz --inputs 100000

fuzz-alerts: ## 100,000 spoiled requests through sources and rules, and through all of serve
	@tools/venv.sh drill,dev
	@PYTHONPATH=tests $(BIN)/python -m fuzz.alerts --inputs 100000
	@PYTHONPATH=tests $(BIN)/python -m fuzz.served --inputs 104000 --over-http 4000

docs: ## docs/causes.md, made of the findings' own words
	@tools/venv.sh drill,dev
	@$(BIN)/python tools/causes.py

screenshots: ## the pages of `serve` as docs/images/ shows them, in a real browser
	@tools/venv.sh drill,dev,browser
	@PYTHONPATH=tests $(BIN)/python -m browser.chromium
	@PYTHONPATH=tests $(BIN)/python -W ignore -m browser.screenshots

clean: ## remove the virtual environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

SHELL := bash

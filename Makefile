# One target a task; `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help demo check unit test bench lab clean

BIN := .venv/bin

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## a real saturated PostgreSQL, diagnosed and healed in front of you
	@tools/venv.sh drill
	@$(BIN)/runbook drill saturation --auto

check: ## format, lint, types, import contracts
	@tools/venv.sh drill,dev
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check .; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo 2>&1 | tail -n 3; exit $${PIPESTATUS[0]}

unit: ## the tests that need no Docker
	@tools/venv.sh drill,dev
	@$(BIN)/pytest tests/unit

test: ## all tests, on real hosts: sets up Docker and the lab where it can
	@tools/venv.sh drill,dev
	@PYTHONPATH=tests $(BIN)/python -m lab.docker_engine
	@$(BIN)/pytest -n 2 --dist loadfile tests

bench: ## speed and memory against peers and floors, written to bench/results/
	@tools/venv.sh drill,dev
	@PYTHONPATH=tests:. $(BIN)/python -m bench

clean: ## remove the virtual environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

SHELL := bash

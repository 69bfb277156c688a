# One command a verb; each creates what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check lint types bench docs fuzz clean

demo: $(VENV)/.dev
	@$(BIN)/sillyproxy demo

test: $(VENV)/.dev
	@$(BIN)/ruff check src tests bench myapp
	@$(BIN)/ruff format --check src tests bench myapp
	@$(BIN)/mypy
	@$(BIN)/pytest

check lint types: $(VENV)/.dev
	@$(BIN)/ruff check src tests bench myapp
	@$(BIN)/ruff format --check src tests bench myapp
	@$(BIN)/mypy

$(VENV)/.dev: pyproject.toml
	@PYTHON=$(PYTHON) sh ./scripts/venv.sh $(VENV) dev
	@touch $@

# All of it takes half an hour on a quiet machine; make bench BENCH=--quick takes three minutes.
bench: $(VENV)/.bench
	@$(BIN)/python -m bench $(BENCH)

$(VENV)/.bench: pyproject.toml
	@PYTHON=$(PYTHON) sh ./scripts/venv.sh $(VENV) bench
	@touch $@

# A million messages against h11; FUZZ="--seed N --start M" repeats a run or goes on with one.
fuzz: $(VENV)/.dev
	@$(BIN)/python -m fuzz --cases 1000000 $(FUZZ)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

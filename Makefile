# One command a verb; each creates what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-compiled check lint types compiled bench protocols faults soak observe fuzz screenshots clean

demo: $(VENV)/.dev
	@$(BIN)/sillyproxy demo

test: $(VENV)/.dev
	@$(BIN)/ruff check src tests bench fuzz scripts myapp
	@$(BIN)/ruff format --check src tests bench fuzz scripts myapp
	@$(BIN)/mypy
	@$(BIN)/pytest

check lint types: $(VENV)/.dev
	@$(BIN)/ruff check src tests bench fuzz scripts myapp
	@$(BIN)/ruff format --check src tests bench fuzz scripts myapp
	@$(BIN)/mypy

$(VENV)/.dev: pyproject.toml
	@PYTHON=$(PYTHON) sh ./scripts/venv.sh $(VENV) dev
	@touch $@

# The hot path compiled by mypyc, in a copy of the package; needs gcc and Python's headers.
compiled: $(VENV)/.dev
	@$(BIN)/python scripts/compile.py build/compiled

# What a client sees must be the same: the conformance suite against the compiled copy.
test-compiled: compiled
	@PYTHONPATH=build/compiled $(BIN)/pytest tests/wire/conformance tests/wire/test_promise_books.py \
		tests/wire/test_promise_access_log.py tests/wire/test_promise_log_rotation.py

# All of it takes half an hour on a quiet machine; make bench BENCH=--quick takes three minutes.
bench: $(VENV)/.bench compiled
	@$(BIN)/python -m bench $(BENCH)

# TLS, HTTP/2 and gRPC, ten minutes; then what the known attacks on HTTP/2 cost, two.
protocols: $(VENV)/.bench compiled
	@$(BIN)/python -m bench.protocols $(PROTOCOLS)
	@$(BIN)/python -m bench.floods

$(VENV)/.bench: pyproject.toml
	@PYTHON=$(PYTHON) sh ./scripts/venv.sh $(VENV) bench
	@touch $@

# One of four replicas misbehaves: over an hour, as root; make faults FAULTS=--quick takes a quarter of one.
faults: $(VENV)/.bench
	@$(BIN)/python -m bench.faults $(FAULTS)

# Half an hour of churn in everything; make soak SOAK="--minutes 2 --out soak.json" is a look.
soak: $(VENV)/.bench
	@$(BIN)/python -m bench.soak $(SOAK)

# What it costs to be watched: CPU with and without telling, latency beside 50 dashboards; a quarter of an hour.
observe: $(VENV)/.bench
	@$(BIN)/python -m bench.observe cost
	@$(BIN)/python -m bench.observe watch

# A million messages against h11, a minute of field blocks against hpack; FUZZ="--seed N --start M" repeats a run or goes on with one.
fuzz: $(VENV)/.dev
	@$(BIN)/python -m fuzz --cases 1000000 $(FUZZ)
	@$(BIN)/python -m fuzz.hpack_blocks 60

# Pictures of the dashboard for the docs: a canary of five minutes, and Chromium.
screenshots: $(VENV)/.dev
	@$(BIN)/python -m scripts.screenshots

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

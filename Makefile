# Everything a contributor runs. `make` lists the targets; `.ci/run` runs `make test`.
#
# Needs Rust (rustup or a distribution's) and Python >= 3.10; the rest is put in .venv. Package
# indexes, proxies and mirrors are whatever pip and cargo are configured to use.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
CLIPPY := cargo clippy --locked --workspace --all-targets
# `rustc` must see the interpreter that will load the extension, also for the lint.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_QUIET := 1
# A benchmark's or fuzzer's budget.
FUZZ_SECONDS ?= 60
BENCH_ARGS ?=
LINKS_ARGS ?=
NETLAB_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help deps venv build demo test test-rust test-python linkem interop netlab lint format bench bench-full \
  bench-links bench-relay bench-peers bench-native bench-instructions fuzz clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

deps: ## install missing system packages (Debian, as root; otherwise only says what is missing)
	@.ci/deps $(PYTHON)

$(VENV)/.stamp: pyproject.toml | deps
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

venv: $(VENV)/.stamp ## make .venv with every tool and test dependency

build: venv ## build the extension (release) and install the package into .venv, editable
	$(BIN)/maturin develop --release --locked --quiet

demo: build ## run the research fleet: a coordinator and three specialists
	$(BIN)/python examples/fleet/run.py

test: lint test-rust test-python interop ## everything CI runs

test-rust: ## unit, property, simulation and layout tests; needs no Python
	cargo test --locked --workspace

test-python: build ## the public Python API, on loopback
	$(PYTEST) tests/python

linkem: ## build the link emulator that tests and benchmarks put between network namespaces
	cargo build --release --locked --quiet --package linkem

interop: build linkem ## our node and rendezvous against the Go daemon, also over bad links
	$(PYTEST) tests/netlab tests/interop

netlab: build linkem ## who reaches whom behind which NATs, and what connections survive; as root (25 min)
	cd tests && ../$(BIN)/python -m netlab.matrix --peers ours --peers go --peers mixed \
	  --peers mixed-back --write ../docs/traversal.md $(NETLAB_ARGS)
	cd tests && ../$(BIN)/python -m netlab.events --full --write ../docs/traversal.md

lint: build ## formatting, clippy, ruff, mypy, and the stub against the built extension
	cargo fmt --all --check
	$(CLIPPY) -- -D warnings
	$(CLIPPY) --features python -- -D warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest pilot_agent._native

format: venv ## rewrite files the way `lint` wants them
	cargo fmt --all
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: build bench-peers ## throughput and latency next to others (minutes); JSON in bench-results/
	$(BIN)/python benches/compare.py $(BENCH_ARGS)

bench-full: build linkem bench-peers bench-native ## the same with more of everything (half an hour), and a plot
	$(BIN)/python benches/compare.py --plan full $(BENCH_ARGS)
	$(BIN)/python benches/plot.py
	$(BIN)/python benches/links.py --rounds 3 $(LINKS_ARGS)

bench-links: build linkem bench-peers ## streams and requests over slow, long and lossy links, as root
	$(BIN)/python benches/links.py $(LINKS_ARGS)

bench-relay: ## datagrams that a beacon relays, with one core and with two
	cargo bench --locked --quiet --bench relay

bench-peers: $(VENV)/.stamp-bench
$(VENV)/.stamp-bench: pyproject.toml | venv
	@.ci/deps $(PYTHON) bench
	$(BIN)/python -m pip install --quiet --group bench
	@touch $@

bench-native: ## build the references in Rust that `make bench` compares with if they are there
	cargo build --release --locked --manifest-path benches/native/Cargo.toml
	cargo build --release --locked --example bench-peer

bench-instructions: venv ## machine instructions of the hot parts, next to those on record
	$(BIN)/python benches/instructions.py $(BENCH_ARGS)

fuzz: ## every fuzz target for FUZZ_SECONDS each (needs cargo-fuzz)
	@cargo fuzz --version >/dev/null 2>&1 || { \
	  echo "make fuzz needs cargo-fuzz: cargo install cargo-fuzz"; exit 1; }
	# The sanitizer flags are unstable; this lets the stable compiler take them.
	export RUSTC_BOOTSTRAP=1; for target in $$(cargo fuzz list); do \
	  cargo fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; done

clean: ## remove what the targets above made, except Cargo's target directory
	rm -rf $(VENV) bench-results .pytest_cache .mypy_cache .ruff_cache .hypothesis python/pilot_agent/*.so
	find python tests examples benches -name __pycache__ -type d -prune -exec rm -rf {} +

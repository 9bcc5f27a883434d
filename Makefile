# `make run` runs the main job, `make test` the tests; both start from nothing but Python 3.11+ with pip and make.

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
WORKERS ?= 2
MUTATIONS ?= 10000
SEED ?= 0
RUNS ?= runs/first

export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.2

.PHONY: run test test-all fuzz crash lint typecheck unit docs prior clean

run: $(VENV)/.installed
	$(PY) run.py pretrain --strategy chaotic_es --out $(RUNS)/pretrain --overwrite
	$(PY) run.py downstream --config digits --loss $(RUNS)/pretrain/loss.safetensors --out $(RUNS)/digits-learned --overwrite
	$(PY) run.py downstream --config digits --loss cross_entropy --out $(RUNS)/digits-cross_entropy --overwrite
	$(PY) run.py summarize $(RUNS)/digits-learned $(RUNS)/digits-cross_entropy

test: lint docs typecheck unit

# Optimised as users' programs are; `make test` compiles quickly instead, which is most of what its tests cost.
test-all: lint docs typecheck
	XLA_FLAGS= $(PY) -m pytest -n $(WORKERS) --dist loadfile -m "slow or not slow"

# Damaged files, presets, flags and names of every kind; another SEED draws others.
fuzz: $(VENV)/.installed-dev
	EDL_JAX_MUTATIONS=$(MUTATIONS) EDL_JAX_FUZZ_SEED=$(SEED) $(PY) -m pytest -n $(WORKERS) --dist loadfile -m slow tests/fuzz

# kill -9 at 30 moments and a full disk at 20, of every command; the disk is a tmpfs, which root may mount.
crash: $(VENV)/.installed-dev
	EDL_JAX_CRASH_SEED=$(SEED) $(PY) -m pytest -n $(WORKERS) --dist loadfile -m slow tests/crash

lint: $(VENV)/.installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

typecheck: $(VENV)/.installed-dev
	$(PY) -m mypy

# Every program is kept, however small: the workers share them, and a second run compiles what has changed alone.
unit: $(VENV)/.installed-dev
	JAX_DISABLE_MOST_OPTIMIZATIONS=1 JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 $(PY) -m pytest -n $(WORKERS) --dist loadfile

# The site of docs/, in build/site; a link, an anchor or a name that does not exist fails. About 3 seconds. It reads the
# sources without importing them, so that its environment holds the generator alone.
docs: $(VENV)/docs/.installed
	$(VENV)/docs/bin/python -m zensical build --strict

# The prior that the package ships, and the optimum that it approaches: docs/results.md says why they look as they do.
prior: $(VENV)/.installed
	$(PY) run.py pretrain --strategy chaotic_es --out $(RUNS)/prior --overwrite
	cp $(RUNS)/prior/loss.safetensors edl_jax/loss/artifacts/priors/edl.safetensors
	cp $(RUNS)/prior/optimum.safetensors edl_jax/loss/artifacts/priors/edl_optimum.safetensors

$(VENV)/.installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "edl-jax needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

$(VENV)/docs/.installed: requirements-docs.txt
	$(PYTHON) -m venv $(VENV)/docs
	$(VENV)/docs/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	touch $@

clean:
	rm -rf $(VENV) .cache build/site .pytest_cache .ruff_cache .mypy_cache

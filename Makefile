# Two commands do everything on a fresh machine with Python >= 3.10, gcc and make:
#   make demo    consolidates real episodes on a local Ray, shows the concepts and writes a page about them
#   make test    lints, type-checks and runs every test that this machine can run
# Each makes its own virtual environment in .venv and installs what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(wildcard native_simd/csrc/*) native_simd/_build.py setup.py pyproject.toml

.PHONY: demo test lint unit native ray browser bench bench-check bench-baseline cachegrind counters flamegraph test-neon test-numa mutants kills soak sanitize clean

demo: $(VENV)/.installed-plot
	$(BIN)/cluster-engine consolidate --input demo/episodes.parquet --store out/demo
	$(BIN)/cluster-engine show --store out/demo --limit 20 --dendrogram out/demo.png
	$(BIN)/cluster-engine report --store out/demo --output out/demo.html

test: lint unit native ray browser

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

WORKERS ?= 2
unit: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(WORKERS) tests/unit

native: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(WORKERS) tests/native

ray: $(VENV)/.installed-test
	$(BIN)/python -m pytest tests/ray

browser: $(VENV)/.installed-test
	tests/browser/chromium.sh
	$(BIN)/python -m pytest tests/browser

bench: $(VENV)/.installed-bench $(VENV)-rac $(VENV)-chroma
	$(BIN)/python -m benchmarks.kernels
	$(BIN)/python -m benchmarks.similarity
	$(BIN)/python -m benchmarks.linkage
	$(BIN)/python -m benchmarks.large
	$(BIN)/python -m benchmarks.sketches
	$(BIN)/python -m benchmarks.bindings
	$(BIN)/python -m benchmarks.search
	$(BIN)/python -m benchmarks.pool
	$(BIN)/python -m benchmarks.durability
	$(BIN)/python -m benchmarks.tiers
	$(BIN)/python -m benchmarks.serve
	$(BIN)/python -m benchmarks.cycles
	$(BIN)/python -m benchmarks.plots

# RAC++'s wheel needs numpy before 2. Where there is none for this Python, the results say that RAC++ is absent.
$(VENV)-rac:
	$(PYTHON) -m venv $@ && $@/bin/python -m pip install --quiet 'numpy<2' racplusplus==0.1.1 || rm -rf $@

# Chroma pins what we do not. Where it does not install, it is not in the table.
$(VENV)-chroma:
	$(PYTHON) -m venv $@ && $@/bin/python -m pip install --quiet chromadb==1.5.9 || rm -rf $@

bench-check: $(VENV)/.installed-test
	benchmarks/valgrind.sh
	$(BIN)/python -m benchmarks.gate

bench-baseline: $(VENV)/.installed-test
	benchmarks/valgrind.sh
	$(BIN)/python -m benchmarks.gate --record

BENCH ?= pairwise_symmetric
cachegrind: $(VENV)/.installed-test
	benchmarks/valgrind.sh
	$(BIN)/python -m benchmarks.cachegrind '$(BENCH)'

counters: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.counters

CALL ?= linkage average
flamegraph: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.flamegraph '$(CALL)'

test-neon:
	tests/native/neon.sh

test-numa: $(VENV)/.installed-test
	tests/native/numa_vm.sh $(BIN)/python -m pytest -p no:cacheprovider tests/native/test_placement.py tests/native/test_index_memory.py tests/unit/test_probe.py

# The tests of damaged files and requests take a sample; this takes ten thousand of each.
mutants: $(VENV)/.installed-test
	CLUSTER_ENGINE_MUTANTS=10000 $(BIN)/python -m pytest -s tests/unit/test_data_mutation.py tests/unit/test_serving_mutation.py

# The tests kill 20 actors of a service, and let batches overlap in 3 rounds; this kills 200, and lets them in 100.
kills: $(VENV)/.installed-test
	CLUSTER_ENGINE_KILLS=200 $(BIN)/python -m pytest tests/ray/test_service.py -k killed
	CLUSTER_ENGINE_ROUNDS=100 $(BIN)/python -m pytest tests/unit/test_store_lease.py -k eight

# The tests soak a service for 20 seconds, without a judgement on growth; this does for ten minutes, with one.
soak: $(VENV)/.installed-test
	CLUSTER_ENGINE_SOAK_S=600 $(BIN)/python -m pytest -s tests/ray/test_soak.py

sanitize: $(VENV)/.installed-test
	tests/native/sanitize_tests.sh $(BIN)/python

# One stamp an extra; the C files are inputs, so an edit rebuilds the extension.
$(VENV)/.installed-%: $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-rac $(VENV)-chroma build dist out *.egg-info native_simd/*.so native_simd/_simd.c

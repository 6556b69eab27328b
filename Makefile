# The one list of commands, for people and .ci/run alike. PYTHON names the environment to use.
PYTHON ?= python
BUILD ?= build
SANITIZE ?= address,undefined
JOBS ?= 2
# Of the model tests: what they begin with, and how long they go on.
SEED ?= 1
SEEDS ?= 200
# Of each fuzz target: how long it runs; the compiler that has libFuzzer.
SECONDS ?= 60
CLANG ?= clang-16
# Beside that Python, as the dev extra installs it.
CLANG_FORMAT ?= $(if $(findstring /,$(PYTHON)),$(dir $(PYTHON)))clang-format

C_FILES = $(wildcard fastws/native/*/*.[ch] tests/native/*.[ch] tests/fuzz/*.[ch] benchmarks/native/*.[ch])

.DEFAULT_GOAL := help
.PHONY: help build extension test test-quick test-c test-sanitized lint format types stubs pyright check \
	autobahn autobahn-all hostile-table coverage sanitized valgrind bench bench-c clients client-rust client-node \
	compare clean fuzz fuzz-build fuzz-python fuzz-seeds fuzz-parser fuzz-message fuzz-mask-utf8 \
	fuzz-deflate fuzz-engine model model-c soak

help: ## this list
	@grep -E '^[a-z0-9-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 18

build: ## install in place, with what the tests need
	$(PYTHON) -m pip install -e '.[test]'

extension: ## compile the extensions again, in place, after a change of .pyx, .pxd, .c or .h
	$(PYTHON) setup.py build_ext --inplace --parallel $(JOBS)

test: ## everything, the C tests too
	$(PYTHON) -m pytest

test-quick: ## without the tests that take seconds
	$(PYTHON) -m pytest -m 'not slow'

test-c: ## the C tests alone, with CTest
	cmake -S . -B $(BUILD)/native -G Ninja -DFASTWS_SANITIZE=
	cmake --build $(BUILD)/native
	ctest --test-dir $(BUILD)/native --output-on-failure

test-sanitized: ## the C tests under the compiler's sanitizers
	cmake -S . -B $(BUILD)/native-sanitized -G Ninja -DFASTWS_SANITIZE=$(SANITIZE)
	cmake --build $(BUILD)/native-sanitized
	ctest --test-dir $(BUILD)/native-sanitized --output-on-failure

model: ## 20,000 random steps of an engine on real sockets against a model in Python
	FASTWS_MODEL_STEPS=20000 $(PYTHON) -m pytest -s --timeout=0 -o faulthandler_timeout=0 tests/test_model.py

soak: ## ten minutes of clients that come and go, some slow, some breaking off
	FASTWS_SOAK_SECONDS=600 $(PYTHON) -m pytest -s -o faulthandler_timeout=0 tests/hostile/test_soak_rows.py

model-c: ## SEEDS times 10,000 random steps of the C engine against a model, sanitized
	cmake -S . -B $(BUILD)/native-sanitized -G Ninja -DFASTWS_SANITIZE=$(SANITIZE)
	cmake --build $(BUILD)/native-sanitized --target test_engine_model
	$(BUILD)/native-sanitized/test_engine_model $(SEED) $(SEEDS)

autobahn: ## Autobahn|Testsuite against examples/echo.py, half a minute; needs a Python 2.7
	$(PYTHON) tests/autobahn/run.py

autobahn-all: ## all 517 cases of it, a quarter of an hour
	$(PYTHON) tests/autobahn/run.py --all

fuzz-build: ## the fuzz targets, under sanitizers, into $(BUILD)/fuzz
	cmake -S . -B $(BUILD)/fuzz -G Ninja -DCMAKE_C_COMPILER=$(CLANG) -DFASTWS_FUZZ=ON \
		-DFASTWS_SANITIZE=$(SANITIZE)
	MAKEFLAGS= cmake --build $(BUILD)/fuzz --target fuzz # ninja knows make -j, but not this one's

# fuzz_run(TARGET, OPTIONS): what is new goes to $(BUILD)/fuzz, with findings in found/.
fuzz_run = mkdir -p $(BUILD)/fuzz/corpus/$(1) $(BUILD)/fuzz/found && \
	ASAN_OPTIONS=quarantine_size_mb=16 $(BUILD)/fuzz/fuzz_$(1) -max_total_time=$(SECONDS) \
	-verbosity=0 -print_final_stats=1 -timeout=10 -artifact_prefix=$(BUILD)/fuzz/found/$(1)- $(2) \
	$(BUILD)/fuzz/corpus/$(1) tests/fuzz/corpus/$(1)

fuzz: fuzz-parser fuzz-message fuzz-mask-utf8 fuzz-deflate fuzz-engine ## SECONDS of every fuzz target

fuzz-parser: fuzz-build ## SECONDS (60) of the frame parser under libFuzzer
	$(call fuzz_run,parser,-max_len=4096)

fuzz-message: fuzz-build ## the same of the message layer
	$(call fuzz_run,message,-max_len=4096)

fuzz-mask-utf8: fuzz-build ## the same of masking and UTF-8
	$(call fuzz_run,mask_utf8,-max_len=1024)

fuzz-deflate: fuzz-build ## the same of compression
	$(call fuzz_run,deflate,-max_len=2048)

fuzz-engine: fuzz-build ## the same of the engine: logs, subscriptions, policies, slots, variants, staging, both roles
	$(call fuzz_run,engine,-max_len=2048 -len_control=0)

fuzz-python: ## FASTWS_EXAMPLES (10,000) new examples of each test with drawn input
	FASTWS_EXAMPLES=$${FASTWS_EXAMPLES:-10000} $(PYTHON) -m pytest -o timeout=3600 -o faulthandler_timeout=0 \
		tests/http tests/test_http_api_fuzz.py tests/test_differential.py

fuzz-seeds: ## writes the seeds of tests/fuzz/corpus again
	$(PYTHON) tests/fuzz/seeds.py

coverage: ## branches of Python, lines of Cython, branches of C: three figures
	$(PYTHON) tests/instrumented.py coverage

sanitized: ## the Python tests with the extension under the compiler's sanitizers
	$(PYTHON) tests/instrumented.py sanitized

valgrind: ## pytest, the servers that it starts and the C tests under memcheck, 20 minutes
	$(PYTHON) tests/instrumented.py valgrind

hostile-table: ## docs/hostile.md: which test covers which hostile case
	$(PYTHON) tests/hostile/hostile_table.py

lint: ## rules and format of Python (ruff) and C (clang-format)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(CLANG_FORMAT) --dry-run -Werror $(C_FILES)

format: ## put the Python and C files into shape
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .
	$(CLANG_FORMAT) -i $(C_FILES)

types: ## mypy, strict, also of what users write (tests/typing)
	$(PYTHON) -m mypy --strict fastws examples tests/support.py tests/instrumented.py tests/autobahn/run.py
	$(PYTHON) -m mypy --strict tests/typing/*.py

pyright: ## pyright (npm) of what users write
	npx --yes pyright --pythonpath $$(command -v $(PYTHON)) -p tests/typing

stubs: ## the stubs of the extension modules say what is there
	$(PYTHON) -m mypy.stubtest fastws._frame fastws._inbox fastws._ticks \
		--allowlist tests/typing/stubs_allowed.txt

check: lint types stubs ## every check that is no test

bench: ## the small benchmarks: one tick, one publish
	$(PYTHON) -m pytest benchmarks --benchmark-columns=median,iqr,rounds

bench-c: ## the C programs of the benchmarks, into $(BUILD)/release
	cmake -S . -B $(BUILD)/release -G Ninja -DCMAKE_BUILD_TYPE=Release
	cmake --build $(BUILD)/release

compare: bench-c client-node ## fastws beside other servers, into $(BUILD)/compare; needs the extras bench and chart
	$(PYTHON) -m benchmarks.compare --out $(BUILD)/compare

clients: client-rust client-node ## the clients of others that the interop tests use

client-rust: ## benchmarks/clients/rust/target/release/tick-client
	cargo build --release --quiet --manifest-path benchmarks/clients/rust/Cargo.toml

client-node: ## the libraries of benchmarks/clients/node/client.mjs
	npm ci --prefix benchmarks/clients/node

clean: ## what was built, but not the environment
	rm -rf build dist *.egg-info fastws/_*.c fastws/_*.html fastws/_*.so
	rm -rf .pytest_cache .mypy_cache .ruff_cache .benchmarks .hypothesis
	rm -rf benchmarks/clients/rust/target benchmarks/clients/node/node_modules
	find fastws tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

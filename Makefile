# `make` lists the targets. They need Python 3.11 or newer (make PYTHON=python3.12 … to choose one) and a C compiler.
PYTHON ?= python3

BIN := .venv/bin
# meson, ninja and cython are looked up by name, at installation and whenever a kernel has changed
IN_VENV := PATH="$(CURDIR)/$(BIN):$$PATH"

DEMO := $(CURDIR)/demo
DEMO_MODEL := SmolLM2-135M-Instruct

MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.PHONY: help demo test integration bench lint clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: demo/venv/ready demo/$(DEMO_MODEL)/config.json ## publish a real model, and ask it something; all of it stays in demo/
	cd demo && OLLAMA_MODELS="$(DEMO)/models" venv/bin/ollamaq publish $(DEMO_MODEL) --q Q5_K_M --to store \
		--prompt "What is the capital of France?" --expect Paris

test: .venv/ready ## the fast tests
	$(IN_VENV) $(BIN)/python -m pytest -n auto

integration: .venv/ready ## the tests against the real Ollama, llama.cpp and Docker, which are made once and kept
	$(IN_VENV) $(BIN)/python integration/parts.py
	$(IN_VENV) $(BIN)/python -m pytest integration

bench: .venv/ready ## kernels and whole files beside llama.cpp's
	$(IN_VENV) $(BIN)/python benchmarks/bench_kernels.py
	$(IN_VENV) $(BIN)/python benchmarks/bench_quantize.py
	$(IN_VENV) $(BIN)/python benchmarks/bench_memory.py
	$(IN_VENV) $(BIN)/python benchmarks/bench_convert.py
	$(IN_VENV) $(BIN)/python benchmarks/report.py
	$(IN_VENV) $(BIN)/python benchmarks/bench_modelfile.py

lint: .venv/ready ## style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean: ## remove what the other targets made here; the integration parts in ~/.cache stay
	rm -rf .venv demo build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache

.venv/ready: pyproject.toml meson.build Makefile
	@$(PYTHON) -c "$$CHECK"
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install -q meson-python meson cython ninja
	$(IN_VENV) $(BIN)/python -m pip install -q --no-build-isolation --config-settings=build-dir=.venv/build -e '.[dev,embedded]'
	@touch $@

demo/venv/ready: pyproject.toml meson.build Makefile $(shell find $(wildcard kernels ollamaq templates) -type f -not -name '*.pyc')
	@$(PYTHON) -c "$$CHECK"
	$(PYTHON) -m venv --clear demo/venv
	demo/venv/bin/python -m pip install -q '.[embedded,verify]'
	@touch $@

demo/$(DEMO_MODEL)/config.json: integration/smollm2.py | demo/venv/ready
	OLLAMAQ_INTEGRATION_CACHE="$(DEMO)/cache" demo/venv/bin/python integration/smollm2.py demo/$(DEMO_MODEL)

define CHECK
import importlib.util, os, shutil, sys, sysconfig
if sys.version_info < (3, 11):
    sys.exit(f'ollamaq needs Python 3.11 or newer, and $(PYTHON) is {sys.version.split()[0]}: make PYTHON=python3.12 …')
if not importlib.util.find_spec('ensurepip'):
    sys.exit('$(PYTHON) can not make virtual environments: install python3-venv')
if not any(map(shutil.which, (os.environ.get('CC', 'cc').split()[0], 'cc', 'gcc', 'clang'))):
    sys.exit('there is no C compiler: install gcc or clang')
if not os.path.exists(os.path.join(sysconfig.get_path('include'), 'Python.h')):
    sys.exit('the headers of $(PYTHON) are missing: install python3-dev')
endef
export CHECK

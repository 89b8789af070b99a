# make demo         set up .venv, then play the two games: pictures and a report
# make test         set up .venv, then run the suite
# make test-large   the tests that need minutes or gigabytes
# make lint         ruff, mypy, clang-format      make format   rewrite to the house format
# make gpu-check    what only a GPU can tell, on the one that is here
# make bench-toy    every benchmark at toy size
# make build        recompile what changed in csrc/, in place
# make clean        remove builds and caches (keeps .venv)
#
# make test PYTHON=python3.12    chooses the interpreter that .venv is made from
# make demo DEMO_OUTPUT=pictures  chooses where the pictures go

PYTHON ?= python3
DEMO_OUTPUT ?= mixsolve-demo
PY := .venv/bin/python
CXX_FILES := $(shell find csrc tests -name '*.h' -o -name '*.cpp' -o -name '*.cu')

# Named after this folder: an environment that came here with a copied or moved checkout is installed anew.
STAMP := .venv/.installed-$(shell pwd | cksum | cut -d' ' -f1)

.PHONY: demo test test-large gpu-check lint format bench-toy build clean
.NOTPARALLEL:

demo: build
	$(PY) -m mixsolve demo --out $(DEMO_OUTPUT)

test: build
	$(PY) -m pytest

test-large: build
	$(PY) -m pytest -m large

gpu-check: build
	$(PY) -m benchmarks.gpu_check

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/clang-format --dry-run --Werror $(CXX_FILES)

format: $(STAMP)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	.venv/bin/clang-format -i $(CXX_FILES)

bench-toy: build
	$(PY) -m pytest tests/test_benchmarks.py

build: $(STAMP)
	@$(PY) setup.py --quiet build_ext --inplace

clean:
	rm -rf build dist *.egg-info mixsolve/_native*.so
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

# The small tools first: a missing compiler or missing headers then shows at once, not after a large download.
$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "mixsolve needs Python 3.10 or newer, and $(PYTHON) was not found."; \
	  echo "Install it (Debian, Ubuntu: sudo apt install python3 python3-venv python3-dev)"; \
	  echo "or name one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "mixsolve needs Python 3.10 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
	  echo "Name a newer one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments."; \
	  echo "Install its venv module (Debian, Ubuntu: sudo apt install python3-venv)"; exit 1; }
	@$(PY) -c 'import pip' 2>/dev/null || { echo "Making .venv"; $(PYTHON) -m venv --clear .venv; }
	@echo "Installing the build tools into .venv"
	@$(PY) -m pip install --quiet "setuptools>=77" "pybind11>=2.13" "ninja>=1.11"
	@$(PY) setup.py --quiet build_ext --inplace
	@echo "Installing mixsolve and its development dependencies into .venv (the first time takes some minutes)"
	@$(PY) -m pip install --quiet --no-build-isolation --editable ".[dev]"
	@$(PY) -m pip install --quiet --no-deps torchattacks==3.5.1 pyautoattack==0.2.0
	@rm -f .venv/.installed-*
	@touch $@

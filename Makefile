# Everything a checkout needs. On a fresh machine: Python 3.11 or newer with pip and venv, and make.
#   make demo      train the plain and the gated network on digits, side by side
#   make test      the test suite
#   make test-fast its quick part, for the inner loop
#   make lint      ruff and mypy
#   make format    let ruff rewrite what it can
#   make pictures  the pictures of the README, drawn anew from the demo's run; needs chromium
#   make site      the documentation as a site, with a reference of the public names, in build/site/html
#   make lock      resolve pyproject.toml into requirements.lock anew
#   make clean     remove the environment and all caches, not the runs

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
RUN ?= runs/digits
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-fast lint format pictures site lock clean setup
.DELETE_ON_ERROR:

demo: $(READY)
	$(BIN)/torchpaths train --out $(RUN)

# Tests are small: a process for each core, and no pool of threads inside them.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-fast: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not slow"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

pictures: demo
	mkdir -p docs/pictures
	cp $(RUN)/figures/class-rates.png docs/pictures/digits-openness.png
	$(BIN)/torchpaths survey $(RUN) --alone --gallery --times
	$(BIN)/torchpaths explore $(RUN) --out $(RUN)/explorer.html
	$(BIN)/python docs/page_picture.py $(RUN)/explorer.html

site: $(READY)
	$(BIN)/python docs/site.py

setup: $(READY)

# The environment: exactly the lock's versions and hashes, then the package itself in place.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"torchpaths needs Python 3.11 or newer, $(PYTHON) is {v.major}.{v.minor}; say make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# uv resolves for every platform at once; it lives in an environment of its own, thrown away afterwards.
lock:
	tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	$(PYTHON) -m venv "$$tmp/uv" && "$$tmp/uv/bin/python" -m pip install --quiet uv && \
	"$$tmp/uv/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --no-annotate pyproject.toml --group dev -o requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

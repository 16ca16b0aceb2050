# QGFace plugin. `make help` lists what there is; the README says what it does.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.PHONY: help install quickstart test test-long gpu coverage fuzz lint docs versions clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ":.*## " "/^[a-z-]+:.*## / { printf \"make %-12s %s\\n\", \$$1, \$$2 }" $(MAKEFILE_LIST)

# Once, and again when what is to be installed has changed.
$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed, and $(PYTHON) is not: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check -c constraints.txt -e ".[test,eval,docs]"
	$(RUN) -m pip install --disable-pip-version-check --no-deps "insightface==2.1"  # it asks for a second OpenCV
	@touch $@

install: $(INSTALLED)  ## the virtual environment .venv with everything in it; PYTHON=... chooses the interpreter

quickstart: $(INSTALLED)  ## a small run on drawn faces, about two minutes on two cores
	DATA_ROOT= ARCFACE_TORCH= $(RUN) train_v2.py recipes/quickstart.py

# One thread a process: the tests are small, and some start processes of their own. A file's tests stay together.
test: $(INSTALLED)  ## the tests, two files at a time; WORKERS=...
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(or $(WORKERS),2) --dist loadfile

test-long: $(INSTALLED)  ## the tests that take minutes; ARCFACE_TORCH=... includes those against a checkout
	OMP_NUM_THREADS=1 $(RUN) -m pytest -m long

gpu: $(INSTALLED)  ## what only a GPU can show, in ten minutes on one; ARCFACE_TORCH=...
	$(RUN) -m qgface_plugin benchmark acceptance $(if $(ARCFACE_TORCH),--arcface-torch $(ARCFACE_TORCH))

coverage: $(INSTALLED)  ## the tests again, and which lines of the package none of them reaches
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(or $(WORKERS),2) --dist loadfile --cov --cov-report=term-missing:skip-covered

fuzz: $(INSTALLED)  ## 100,000 damaged files against every reader; CASES=... SEED=...
	OMP_NUM_THREADS=1 $(RUN) tests/fuzz --cases $(or $(CASES),100000) --seed $(or $(SEED),1)

lint: $(INSTALLED)  ## ruff: mistakes and layout; mypy: types; import-linter: who imports whom
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports --no-logo

docs: $(INSTALLED)  ## the pages of docs/ as a site, build/site/index.html; writes the generated ones anew, fails on any warning
	$(RUN) -m docs.reference
	$(RUN) -m sphinx -W --keep-going -q -c docs . build/site
	@echo "build/site/index.html"

versions: $(INSTALLED)  ## the tests on other stacks, each in an environment of its own: noxfile.py, docs/install.md
	$(RUN) -m pip install --disable-pip-version-check -c constraints.txt -e ".[versions]"
	$(RUN) -m nox -s tests

clean:  ## remove the virtual environment and caches; runs in work_dirs stay
	rm -rf $(VENV) .nox build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

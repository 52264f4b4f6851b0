# Everything from a fresh clone: `make demo` prunes, retrains and evaluates on the demo set,
# `make test` runs the tests. Both set up their own virtual environment in .venv first.
VENV ?= .venv
PY := $(VENV)/bin/python
DETECTRON2 ?= wheel
STAMP := $(VENV)/.installed-$(DETECTRON2)
# The first of these that runs, fits and can make a virtual environment; PYTHON=... takes another.
FITS := import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c '$(FITS)' >/dev/null 2>&1 && { echo $$python; break; }; done)

.PHONY: help setup demo test lint docs lock clean

help:
	@echo "make setup   make $(VENV) with torch, torchvision, Detectron2 and this package (a few minutes, ~6 GB)"
	@echo "make demo    prune the embedded demo set, retrain on what is left, print the mAP table"
	@echo "make test    run the tests"
	@echo "make lint    ruff (rules and format) and mypy"
	@echo "make docs    the API pages from the docstrings, in output/docs"
	@echo "make lock    write requirements.txt anew from pyproject.toml: the newest versions that fit together"
	@echo "make clean   remove $(VENV), the demo's output and the API pages"
	@echo "Options: PYTHON=python3.12 picks the interpreter, DETECTRON2=git builds Detectron2 from source"

setup: $(STAMP)

$(STAMP): requirements.txt pyproject.toml tools/install_detectron2.sh
	@test -n "$(PYTHON)" || { echo "no Python 3.11 to 3.14 with venv found: make PYTHON=/path/to/python ..."; exit 1; }
	@$(PYTHON) -c '$(FITS)' || { echo "$(PYTHON) is no Python 3.11 to 3.14 with venv: make PYTHON=/path/to/another ..."; exit 1; }
	@echo "== making the virtual environment $(VENV) with $(PYTHON), $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@echo "== installing torch, torchvision and the libraries of requirements.txt (about two minutes)"
	@$(PY) -m pip install -q --disable-pip-version-check $$(grep -E '^(setuptools|wheel)==' requirements.txt)
	@$(PY) -m pip install -q --disable-pip-version-check -r requirements.txt
	@DETECTRON2="$(DETECTRON2)" tools/install_detectron2.sh $(PY)
	@echo "== installing this package (editable)"
	@$(PY) -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
	@echo "== set-up done"

demo: setup
	$(PY) -m adapruner_det.cli demo --output output/demo

# A file of tests to a process, as those of a file share what they make, those that last longest first; more than four
# processes want more memory.
test: setup
	$(PY) -m pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations=10 \
		tests/engine tests/tools tests

lint: setup
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

# Every module by its name as well: pdoc leaves out those that a package's __all__ does not list.
MODULES := $(subst /,.,$(basename $(filter-out %__init__.py,$(wildcard adapruner_det/*.py adapruner_det/*/*.py))))
docs: setup
	@echo "== building the API pages in output/docs"
	@$(PY) -W "ignore:The module specification" -m pdoc --docformat google --no-show-source --output-directory output/docs adapruner_det $(MODULES)

lock: setup
	$(PY) -m uv pip compile -q --upgrade --universal --python-version 3.11 --group environment \
		--extra pretrained --extra report --extra test --extra dev \
		--custom-compile-command "make lock" --output-file requirements.txt pyproject.toml

clean:
	rm -rf $(VENV) output/demo output/docs datasets/demo

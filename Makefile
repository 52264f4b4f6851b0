# Everything from a fresh clone: `make demo` prunes, retrains and evaluates on the demo set,
# `make test` runs the tests. Both set up their own virtual environment in .venv first.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
DETECTRON2 ?= wheel
STAMP := $(VENV)/.installed-$(DETECTRON2)

.PHONY: help setup demo test clean

help:
	@echo "make setup   make $(VENV) with torch, torchvision, Detectron2 and this package (a few minutes, ~6 GB)"
	@echo "make demo    prune the embedded demo set, retrain on what is left, print the mAP table"
	@echo "make test    run the tests"
	@echo "make clean   remove $(VENV) and the demo's output"
	@echo "Options: PYTHON=python3.11 picks the interpreter, DETECTRON2=git builds Detectron2 from source"

setup: $(STAMP)

$(STAMP): requirements.txt setup.py tools/install_detectron2.sh
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 12) else "Python %d.%d found, 3.11 or 3.12 needed: make PYTHON=/path/to/python3.11 ..." % v)'
	@echo "== making the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@echo "== installing torch, torchvision and the libraries of requirements.txt (about two minutes)"
	@$(PY) -m pip install -q --disable-pip-version-check setuptools==80.10.2 wheel==0.45.1
	@$(PY) -m pip install -q --disable-pip-version-check -r requirements.txt
	@DETECTRON2="$(DETECTRON2)" tools/install_detectron2.sh $(PY)
	@echo "== installing this package (editable)"
	@$(PY) -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
	@echo "== set-up done"

demo: setup
	$(PY) tools/demo.py --output output/demo

test: setup
	$(PY) -m pytest -q --durations=10 tests

clean:
	rm -rf $(VENV) output/demo datasets/demo

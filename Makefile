# Each line can be typed by hand as well. Another Python: `make lab PYTHON=python3.12`.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(PYTHON) tools/environment.py install

.PHONY: help lab test course record doctor lock clean
help:     ## these lines
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile | expand -t 14

lab:      ## the environment, then JupyterLab at the first lesson
	@$(PYTHON) tools/environment.py lab

test:     ## the environment, then every check: style, types, tests
	@$(INSTALL) lab edge openvino executorch speech cluster test
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest

course:   ## run every lesson headless: notebooks and pages in runs/
	@$(INSTALL) lab edge
	$(BIN)/kit course

record:   ## run every lesson and keep its outputs in notebooks/
	@$(INSTALL) lab edge
	$(BIN)/kit record

doctor:   ## what this computer is, what is installed, what will not work
	@$(INSTALL) lab edge
	$(BIN)/kit doctor

lock:     ## renew constraints.txt: the newest versions that fit together
	@$(INSTALL) lab edge openvino executorch speech cluster test
	$(BIN)/python tools/environment.py lock

clean:    ## remove the environment and what tools left behind; notebooks and runs/ stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

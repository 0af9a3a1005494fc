# You can also type each line by hand. To use another Python: `make lab PYTHON=python3.12`.
PYTHON ?= python3
BIN := $(if $(filter Windows_NT,$(OS)),.venv/Scripts,.venv/bin)
INSTALL := $(PYTHON) tools/environment.py install
TESTED := lab edge openvino executorch speech cluster serve drift pretrained docs test
# nbval is loaded by the test that calls it: loading it takes seconds.
PYTEST := $(BIN)/python -m pytest -p no:nbval
# Most tests run two at a time. Tests that measure time run alone, afterwards.
TWO_AT_A_TIME := -n 2 --dist worksteal

# Python compiles each file once, also where the environment forbids it to store what it compiled.
# Some hundred processes would compile PyTorch again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help lab test quick lint style wheel lowest oldest torture course site record doctor lock clean
help:     ## show these lines
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile | expand -t 14

lab:      ## make the environment and open the lessons in JupyterLab
	@$(PYTHON) tools/environment.py lab

test:     ## make the environment and run every check: style, types, all tests
	@$(INSTALL) $(TESTED)
	@$(MAKE) --no-print-directory lint
	$(PYTEST) $(TWO_AT_A_TIME) -m "not alone"
	$(PYTEST) -m alone

quick:    ## check style, types and the fast tests, while you work
	@$(INSTALL) $(TESTED)
	@$(MAKE) --no-print-directory style
	$(PYTEST) -q $(TWO_AT_A_TIME) -m "not slow"

lint:     ## check style and layout with what is installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

style: lint    ## check style, layout and types with what is installed
	$(BIN)/python -m mypy

wheel:    ## build the package into dist/ and test it in an empty environment
	@$(INSTALL) $(TESTED)
	$(BIN)/python -m hatchling build --target wheel
	$(BIN)/python -m pytest -q tests/test_wheel.py

lowest:   ## run the fast tests with the lowest versions that pyproject.toml allows
	@$(INSTALL) test
	mkdir -p build
	$(BIN)/python -m uv pip compile --no-config --quiet --resolution lowest-direct pyproject.toml \
	  --extra lab --extra edge --extra cluster --extra test --output-file build/lowest.txt
	$(BIN)/python -m uv run --no-config --isolated --no-project --with-requirements build/lowest.txt \
	  --with-editable . python -m pytest -q -m "not slow"

oldest:   ## make build/oldest: the lowest versions of all but PyTorch, for `make torture`
	@$(INSTALL) test
	mkdir -p build
	$(BIN)/python -m uv pip compile --quiet --resolution lowest-direct pyproject.toml \
	  --extra cluster --extra serve --output-file build/lowest.txt
	sed -i -E '/^(nvidia|cuda|triton)/d' build/lowest.txt  # the build for CPUs needs none of them
	rm -rf build/oldest
	$(PYTHON) -m venv --clear build/oldest.part
	build/oldest.part/bin/python tools/environment.py here
	$(BIN)/python -m uv pip install --python build/oldest.part/bin/python -r build/lowest.txt
	mv build/oldest.part build/oldest  # its `bin/python` works there; other programs in `bin` do not

torture:  ## do to every part what the world does; MINUTES=60 SEED=7 for longer, and other moments
	@$(INSTALL) lab edge cluster serve
	KIT_TORTURE_OLDEST=$(wildcard $(CURDIR)/build/oldest/bin/python) \
	  $(BIN)/python benchmarks/torture.py --minutes $(or $(MINUTES),10) --seed $(or $(SEED),0)

course:   ## run every lesson without a browser; notebooks and pages go to runs/
	@$(INSTALL) lab edge serve drift pretrained
	$(BIN)/kit course

site:     ## build the web site of the course from the recorded notebooks, to build/site/
	@$(INSTALL) edge serve drift docs
	$(BIN)/python docs/_site/build.py

record:   ## run every lesson and experiment and store the outputs in notebooks/
	@$(INSTALL) lab edge serve drift pretrained
	$(BIN)/kit record

doctor:   ## show what this computer is, what is installed and what will not work
	@$(INSTALL) lab edge serve drift pretrained
	$(BIN)/kit doctor

lock:     ## write constraints.txt with the newest versions that fit together
	@$(INSTALL) $(TESTED)
	$(BIN)/python tools/environment.py lock

clean:    ## remove the environment and the caches of tools; notebooks and runs/ stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

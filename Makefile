# Needs only Python >= 3.11, make and the package registry; everything else goes into $(VENV).
#   make report [FER_DATA=folder|csv|zip] [PROFILE=full]    execute all notebooks, write report/index.html
#   make test   [FER_DATA=…]                                package tests, then every notebook
#   make test-ui                                         the report and JupyterLab in Chromium, which it needs
#   make lab                                                open JupyterLab
#   make notebooks                                          renew the outputs of the committed notebooks
PYTHON  ?= python3
VENV    ?= .venv
PROFILE ?= quick
BIN     := $(VENV)/bin
READY   := $(VENV)/.installed

ifneq ($(strip $(FER_DATA)),)
# Kernels start in other folders: a path must not depend on this one. Names such as "synthetic" stay as they are.
export FER_DATA := $(or $(realpath $(FER_DATA)),$(FER_DATA))
endif

# Threads that wait for each other must sleep, not spin: spinning makes torch several times slower as soon as
# anything else runs on the machine.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help report test test-ui lint lab notebooks clean

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[test]"
	touch $@

report: $(READY)
	$(BIN)/fer report --profile $(PROFILE) --out report

test: lint
	$(BIN)/python -m pytest tests --ignore tests/ui
	# Committed outputs belong to the embedded faces; a store of its own, so that every run is trained here and now.
	store=$$(mktemp -d) && trap 'rm -rf "$$store"' EXIT && \
	  env -u FER_DATA FER_RUNS="$$store" TQDM_DISABLE=1 $(BIN)/python -m pytest --nbval-lax notebooks

test-ui: $(READY)
	$(BIN)/python -m pytest tests/ui

lint: $(READY)
	$(BIN)/ruff check

lab: $(READY)
	$(BIN)/jupyter lab notebooks

# The same run as the report's, so that the repository and the report cannot differ.
notebooks: $(READY)
	store=$$(mktemp -d) && trap 'rm -rf "$$store"' EXIT && \
	  env -u FER_DATA FER_RUNS="$$store" $(BIN)/fer report --out "$$store/report" && \
	  cp "$$store"/report/notebooks/*.ipynb notebooks

clean:
	rm -rf report build *.egg-info

# Needs only Python >= 3.11, make and the package registry; everything else goes into $(VENV).
#   make report [FER_DATA=folder|csv|zip] [PROFILE=full]    execute all notebooks, write report/index.html
#   make test   [FER_DATA=…] [JOBS=4]                       package tests but for nightly ones, then every notebook
#   make test-all [FER_DATA=…] [JOBS=4]                     the same with nightly ones
#   make test-fast [JOBS=4]                             what takes moments of the package tests, for the loop of work
#   make test-ui                                         the report and JupyterLab in Chromium, which it needs
#   make study FER_DATA=…                                train what is missing of the recorded runs; hours
#   make lab                                                open JupyterLab
#   make notebooks                                          renew the outputs of the committed notebooks
#   make install [CONSTRAINTS=]                             $(VENV) with the pinned versions, or within the loose ranges
#   make lint                                               style, types, notebooks, layers, dependencies
#   make constraints [UPGRADE=--upgrade]                    pin what pyproject.toml now asks for; or the newest of all
#   make audit                                              known vulnerabilities of the pins; needs the network
PYTHON  ?= python3
VENV    ?= .venv
PROFILE ?= quick
BIN     := $(VENV)/bin
READY   := $(VENV)/.installed
INSTALLED = $(addprefix --constraint ,$(CONSTRAINTS)) --editable ".[test]"
# The versions that were tested together; `make CONSTRAINTS= …` takes whatever the ranges of pyproject.toml allow now.
CONSTRAINTS ?= constraints.txt
# Tests share the processors by processes of one thread each: most of what they do is no work for two, and much of it is
# waiting, which notebooks do not. A file of tests, or a notebook, stays in one process.
JOBS    ?= 4
PYTEST  := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder

ifneq ($(strip $(FER_DATA)),)
# Kernels start in other folders: a path must not depend on this one. Names such as "synthetic" stay as they are. Make's
# own functions would take a path with a space for two.
override FER_DATA := $(shell $(PYTHON) -c 'import os, sys; path = os.path.expanduser(sys.argv[1]); \
  print(os.path.realpath(path) if os.path.exists(path) else path)' '$(subst ','\'',$(FER_DATA))')
export FER_DATA
endif

# Threads that wait for each other must sleep, not spin: spinning makes torch several times slower as soon as
# anything else runs on the machine.
export OMP_WAIT_POLICY ?= PASSIVE

# What is imported compiles itself, once: where this is set, each of some hundred processes compiles torch again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install report study test test-all test-fast test-ui lint constraints audit lab notebooks clean

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

$(READY): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	@# uv unpacks side by side and keeps what it fetched: a tenth of pip's time. Where it cannot reach the registry that
	@# pip is set up for, pip does it.
	$(BIN)/pip install --quiet "uv>=0.5"
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(INSTALLED) || $(BIN)/pip install --quiet $(INSTALLED)
	touch $@

install: $(READY)

report: $(READY)
	$(BIN)/fer report --profile $(PROFILE) --out report

study: $(READY)
	$(BIN)/fer study

test: SELECTED := -m "not nightly"
test test-all: lint
	$(PYTEST) -n $(JOBS) $(SELECTED) tests --ignore tests/ui
	# Committed outputs belong to the embedded faces; a store of its own, so that every run is trained here and now.
	store=$$(mktemp -d) && trap 'rm -rf "$$store"' EXIT && \
	  env -u FER_DATA FER_RUNS="$$store" TQDM_DISABLE=1 $(PYTEST) -n logical --nbval-lax notebooks

test-fast: $(READY)
	$(PYTEST) -n $(JOBS) -m "not nightly and not slow and not cluster and not hostile" tests --ignore tests/ui

test-ui: $(READY)
	$(BIN)/python -m pytest tests/ui

# Ruff and deptry read notebooks themselves; nbqa hands their cells to mypy, which does not.
lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/deptry .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m nbqa mypy notebooks

# One file for every system and Python of CI. What is pinned stays as long as the ranges allow it.
constraints:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "uv>=0.5"
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --all-extras $(UPGRADE) \
	  --annotation-style line --custom-compile-command "make constraints" --output-file constraints.txt pyproject.toml

# Strict: a package that the service does not know, or does not answer about, must not count as a safe one.
audit: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt "pip-audit>=2.7"
	@found=$$($(BIN)/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt 2>&1); code=$$?; \
	echo "$$found" | tail -n 40; \
	case "$$found" in *"could not be audited"*|*[Cc]onnection*|*"timed out"*) \
	  echo "make audit: the vulnerability service cannot be reached from here; nothing is known about these pins" >&2;; \
	esac; exit $$code

lab: $(READY)
	$(BIN)/jupyter lab notebooks --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate --LabApp.news_url=None

# The same run as the report's, so that the repository and the report cannot differ.
notebooks: $(READY)
	store=$$(mktemp -d) && trap 'rm -rf "$$store"' EXIT && \
	  env -u FER_DATA FER_RUNS="$$store" $(BIN)/fer report --out "$$store/report" && \
	  cp "$$store"/report/notebooks/*.ipynb notebooks

clean:
	rm -rf report build *.egg-info

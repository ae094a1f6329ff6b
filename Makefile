# The whole interface; continuous integration calls these targets and nothing else.
#
# Needs python3 (3.11 or newer) with venv and pip. Everything else goes into $(VENV), once.

PYTHON ?= python3
VENV ?= .venv
# Processes that the tests are spread over.
JOBS ?= 2

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist worksteal

.DEFAULT_GOAL := check
.PHONY: setup demo check lint types fmt quick test wheel-test

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("labctl needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -e '.[dev]'
	touch $@

# Two recipes through every phase of their curricula on small data, a sweep, and their tables.
demo: $(INSTALLED)
	$(BIN)/labctl run recipes/ctd_gamma1.5.yaml recipes/ctd_baseline.yaml --preset smoke
	$(BIN)/labctl report --table main --preset smoke
	$(BIN)/labctl sweep beta --values 0.20:0.25 --preset smoke
	$(BIN)/labctl report --table beta --preset smoke

check: lint types test

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo

types: $(INSTALLED)
	$(BIN)/mypy labctl plugins

fmt: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What to run while working: under two minutes on two cores.
quick: $(INSTALLED)
	$(PYTEST) -m "not slow and not gpu"

# Everything; tests that need a GPU are skipped where there is none.
test: $(INSTALLED)
	$(PYTEST)

# Builds the wheel, installs it into an empty environment, and uses it from an empty folder.
wheel-test: $(INSTALLED)
	PYTHON=$(BIN)/python tests/wheel.sh

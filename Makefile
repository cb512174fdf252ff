# Every target makes and reuses .venv by itself. On a fresh Debian machine: make demo, then make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTS := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile
DEMO ?= demo
export PYTHONDONTWRITEBYTECODE :=# containers like to set it; rewritten tests would be compiled again by every process

.PHONY: demo test check fuzz bench studies detection messages fix clean packages

packages:
	@missing=""; \
	command -v $(PYTHON) >/dev/null || missing="$$missing python3"; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "wanted Python 3.11 or newer as $(PYTHON); name another with  make PYTHON=python3.12"; exit 2; }; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
	for pair in libpango-1.0.so.0:libpango-1.0-0 libpangoft2-1.0.so.0:libpangoft2-1.0-0 libharfbuzz-subset.so.0:libharfbuzz-subset0; do \
	  $(PYTHON) -c "import ctypes, sys; ctypes.CDLL(sys.argv[1])" $${pair%%:*} 2>/dev/null || missing="$$missing $${pair##*:}"; \
	done; \
	if [ -n "$$missing" ]; then \
	  echo "These Debian packages are missing:$$missing"; \
	  echo "Get them with:  sudo apt-get update && sudo apt-get install --no-install-recommends$$missing"; \
	  exit 2; \
	fi

$(READY): pyproject.toml constraints.txt | packages
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(READY)
	@if [ -e "$(DEMO)" ]; then echo "$(DEMO) is there already: remove it, or name another with  make demo DEMO=other"; exit 2; fi
	@$(BIN)/assessor demo $(DEMO)

test: $(READY)
	$(TESTS) -m "not slow"

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(TESTS) --durations 20 $(if $(ONLY),-m $(ONLY))

# New random examples for the property tests, instead of the fixed ones; more of them for files of strangers.
fuzz: $(READY)
	$(TESTS) --hypothesis-profile default -m hypothesis

bench: $(READY)
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# Two are known to fail; studies/README.md says why.
STUDIES := reparameterization uncanny_valley layer_wise_barriers fam grokking flatness_and_gap
studies: $(READY)
	@failed=""; \
	for study in $(STUDIES); do echo "== $$study"; $(BIN)/python studies/$$study.py || failed="$$failed $$study"; done; \
	if [ -n "$$failed" ]; then echo "did not hold:$$failed"; exit 1; fi

# Planted defects: does every check find its own? Half an hour on two cores; goes on where it was stopped.
detection: $(READY)
	$(BIN)/python studies/detection/run.py --jobs 2

messages: $(READY)
	$(BIN)/python -m tools.messages

fix: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info $(DEMO)

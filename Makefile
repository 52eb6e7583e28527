# Everything that the project does, one target each. VENV may be set to use another environment.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

.PHONY: demo test test-minimal lint bench selection methods docs reproduction acceptance clean help

help:
	@echo "make demo | test | test-minimal | lint | bench | selection | methods | docs | reproduction | acceptance | clean"

# One environment with every extra; torch comes in the version that constraints.txt names.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[all]" \
		--group test --group lint --group docs
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/latalign demo -o demo

# One thread of BLAS for each of the two processes: more of them would wait for each other.
test: $(STAMP) test-minimal
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# The package as it is without any extra: nothing optional may be needed.
MINIMAL = $(VENV)-minimal
$(MINIMAL)/.installed: pyproject.toml
	$(PYTHON) -m venv $(MINIMAL)
	$(MINIMAL)/bin/pip install --quiet --upgrade "pip>=25.1"
	$(MINIMAL)/bin/pip install --quiet --editable . --group test
	touch $(MINIMAL)/.installed

test-minimal: $(MINIMAL)/.installed
	$(MINIMAL)/bin/python -m pytest tests/test_minimal.py

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# The peer that is compared with brings lightning, faiss and more: not beside what the tests run in.
BENCH = $(VENV)-bench
$(BENCH)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/pip install --quiet --upgrade "pip>=25.1"
	$(BENCH)/bin/pip install --quiet --constraint constraints.txt --editable ".[all]" --group bench
	touch $(BENCH)/.installed

bench: $(BENCH)/.installed
	$(BENCH)/bin/python -m benchmarks

# What the choice of a method costs, in every setting that the documentation tells of: of networks, which are
# trained first, and of texts, where python -m benchmarks.real_pairs has put their embeddings into the user's cache.
selection: $(STAMP)
	$(BIN)/python -m benchmarks.selection
	$(BIN)/python -m benchmarks.real_selection

# The other tables of docs/methods.md on how far curves, anchors, hubs and thresholds go, of the same pairs.
methods: $(STAMP)
	$(BIN)/python -m benchmarks.curves
	$(BIN)/python -m benchmarks.anchor_choice
	$(BIN)/python -m benchmarks.thresholds

# The tables of the paper by its own protocol: hours on a processor.
reproduction: $(STAMP)
	$(BIN)/latalign reproduce all --preset full -o docs/reproduction
	$(BIN)/python -m latalign.experiments.page docs/reproduction docs/reproduction.md

# What those tables must show, of the results in the repository.
acceptance: $(STAMP)
	$(BIN)/python -m latalign.experiments.acceptance docs/reproduction

docs: $(STAMP)
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf $(VENV) $(MINIMAL) $(BENCH) docs/_build docs/api/generated demo build dist

# `make demo` and `make test` do all their own set-up on a machine with Python >= 3.10 and make.
PYTHON ?= python3
VENV   ?= .venv
DEMO   ?= build/demo
CONFIG ?= configs/demo.py
BIN    := $(VENV)/bin

# pytest's processes: one on each core is faster than threads that share them.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: demo data test test-slow test-all lint docs clean

demo: data
	$(BIN)/python -m mmer_jax.main --config=$(CONFIG) --config.data.dir=$(DEMO)/tfds \
	  --config.text.tokenizer=$(DEMO)/corpus/tokenizer

# The demo corpus, and the dataset prepared from it as IEMOCAP would be.
data: $(VENV)/.demo
	$(BIN)/python -m mmer_jax.prepare demo --manual_dir=$(DEMO)/corpus --data_dir=$(DEMO)/tfds

test: $(VENV)/.test
	$(PYTEST)

# Notebooks, runs in several processes and on many devices, killed ablations, whole benchmarks.
test-slow: $(VENV)/.test
	$(PYTEST) -m slow

test-all: test test-slow

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: $(VENV)/.test
	$(BIN)/python -m sphinx -W --keep-going -b html docs build/docs

$(VENV)/.demo: setup.py constraints.txt
	@echo "== installing into $(VENV): some minutes, about 1 GB to download =="
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[demo]"
	@touch $@

$(VENV)/.test: setup.py constraints.txt
	@echo "== installing into $(VENV): some minutes, about 1 GB to download =="
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test]"
	@touch $@

clean:
	rm -rf build runs

# A fresh machine needs Python ≥ 3.11 and make; everything else is set up here.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= demo

.PHONY: demo figures test verify lint docs bench clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "spinloom needs Python 3.11 or newer; set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

demo: $(READY)  ## the main job: anneal, train, sample, measure, draw; look at demo/report.html
	$(BIN)/spinloom run $(OUT) --preset quick

figures: $(READY)  ## the paper's Figs. 1-6 from what make demo left, into demo/figures and its report
	$(BIN)/spinloom figures $(OUT)

test: $(READY)  ## the default tests
	$(BIN)/python -m pytest -n auto --dist loadfile

verify: $(READY)  ## slow statistical proofs
	$(BIN)/python -m pytest verification

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/spinloom bench anneal --yardstick

docs: $(READY)  ## the command line's own reference
	$(BIN)/python docs/reference.py

clean:
	rm -rf $(VENV) $(OUT)

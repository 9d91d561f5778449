# make demo   a 3D scene from the example picture, in output/demo/
# make test   every test this machine can run in minutes; make test-all with the slow ones
# make venv   the virtual environment both of them use
# make lint   style checks

PYTHON ?= python3
# Any torch will do; name another one here, e.g. make demo TORCH="torch --index-url <your index>".
TORCH  ?= torch==2.13.0
BIN    := .venv/bin

.PHONY: venv demo test test-all lint clean

venv: .venv/installed

.venv/installed: requirements.txt requirements-dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -e '.[cpu]'
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

demo: venv
	$(BIN)/python -m flashworld_core demo --out output/demo

test: .venv/installed-dev
	$(BIN)/python -m pytest -q -m "not slow"

test-all: .venv/installed-dev
	$(BIN)/python -m pytest -q

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/pyright -p . --pythonpath $(BIN)/python

clean:
	rm -rf output .pytest_cache .ruff_cache build *.egg-info

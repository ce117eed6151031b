# Two commands on a fresh machine: `make demo` and `make test`. Every target sets up .venv first if it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.core
READY := $(VENV)/.ready
WORKERS ?= 2
# Waiting threads sleep instead of spinning: on busy cores an epoch took 26 s instead of 121 s.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test test-all check types format benchmark docs gallery shortcut shortcuts study methods networks photographs fuzz clean

# What a user installs; the demo needs no more.
$(CORE): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(CORE)
	$(BIN)/vice demo

test: $(READY)
	$(BIN)/python -m pytest -q -m "not slow" -n $(WORKERS)

# The slow tests need packages of other people's networks and data: transformers, open_clip and datasets.
test-all: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[foreign]'
	$(BIN)/python -m pytest -q -n $(WORKERS)

# What CI runs: format, lint, then the types beside the tests.
check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(MAKE) -j 2 types test

types: $(READY)
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[benchmarks]'
	$(BIN)/python benchmarks/curve.py
	$(BIN)/python benchmarks/bootstrap.py
	$(BIN)/python benchmarks/explain.py
	$(BIN)/python benchmarks/first_number.py
	$(BIN)/python benchmarks/page.py
	$(BIN)/python benchmarks/relevance.py
	$(BIN)/python benchmarks/scale.py

# Warnings are errors (`strict` in mkdocs.yml). Needs no network once the packages are installed.
docs: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

gallery: $(READY)
	$(BIN)/python experiments/gallery.py

shortcut: $(READY)
	$(BIN)/python experiments/shortcut.py

# 90 trainings with known shortcuts: two to three hours on two cores. It resumes.
shortcuts: $(READY)
	$(BIN)/python benchmarks/shortcuts/bench.py

study: $(READY)
	$(BIN)/vice data digits --out data/digits
	$(BIN)/vice data digits --out data/digits-shortcut --shortcut 7
	$(BIN)/python experiments/study.py

# 57 trainings on photographs and one pre-training: hours on two cores (or DEVICE=cuda JOBS=15). It resumes.
photographs: $(READY)
	$(BIN)/python experiments/photographs.py --data $(DATA) --weights $(WEIGHTS) --device $(or $(DEVICE),cpu) --jobs $(or $(JOBS),2)

methods: $(READY)
	$(BIN)/python experiments/methods.py

networks: $(READY)
	$(BIN)/python experiments/networks.py

# Damaged and forged files for every reader: 10^5 in some minutes.
fuzz: $(READY)
	$(BIN)/python benchmarks/fuzz.py --inputs 100000

clean:
	rm -rf $(VENV) runs site

# Everything a newcomer needs, with only python3 (3.11 or newer) and make on the machine.
# Stamps in .venv/.stamps remember what is installed, so a second run starts at once.

PYTHON ?= python3
# Plain assignments: a variable HOST or PORT that happens to be in the environment changes nothing;
# `make serve PORT=9000` and EYE2FACE_PORT do.
HOST = $(or $(EYE2FACE_HOST),127.0.0.1)
PORT = $(or $(EYE2FACE_PORT),8000)
DATA = data/faces64
RUNS = runs/experiment
PERCEPTUAL =
BUILD := $(or $(if $(filter 1,$(GPU)),gpu),$(if $(filter cuda12,$(GPU)),gpu-cuda12),cpu)

BIN := .venv/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install
STAMPS := .venv/.stamps
SERVICE := $(STAMPS)/service-$(BUILD)
EVERYTHING := $(STAMPS)/everything-$(BUILD)
OTHERS := $(foreach build,$(filter-out $(BUILD),cpu gpu gpu-cuda12),$(wildcard $(STAMPS)/*-$(build)))

# Container images often set it; the tests start hundreds of processes, and each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help serve setup develop test test-slow lint types format lock bench experiment model clean
.DEFAULT_GOAL := help

help: ## what can be done here
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: setup ## start the service on http://127.0.0.1:8000 (GPU=1, HOST=..., PORT=...)
	@EYE2FACE_HOST=$(HOST) EYE2FACE_PORT=$(PORT) exec $(BIN)/eye2face serve

setup: $(SERVICE) ## what the service needs, in .venv; no torch (GPU=1: CUDA 13, GPU=cuda12: CUDA 12)

develop: $(EVERYTHING) ## what training and tests need, too, in the same .venv; torch among it

PARALLEL := -n auto --maxprocesses 4 --dist loadfile

test: $(EVERYTHING) lint types ## lint, types and the tests that a change usually breaks
	$(BIN)/python -m pytest -m 'not slow' $(PARALLEL)

test-slow: $(EVERYTHING) ## the other tests: processes, kills, exports, browser, broker, image, cluster, wheel, fuzz (FUZZ_EXAMPLES=1000)
	$(BIN)/python -m pytest -m 'slow and not serial' $(PARALLEL)
	$(BIN)/python -m pytest -m 'slow and serial'

lint: $(EVERYTHING) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(EVERYTHING) ## mypy --strict
	$(BIN)/mypy

format: $(EVERYTHING) ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## renew every pinned version (LOCK='--upgrade-package NAME' for one alone)
	.ci/lock $(LOCK)

bench: $(EVERYTHING) bench/.venv/.stamp ## speed beside floor and peers, into docs/benchmarks.md; takes hours (BENCH='--rounds 1 ...')
	$(BIN)/python -m bench.run $(BENCH)
	$(BIN)/python -m bench.table --into

experiment: $(EVERYTHING) ## train and compare every objective on DATA=data/faces64 (hours; resumes)
	$(BIN)/python -m training experiment $(DATA) --out $(RUNS) --results $(RUNS)/results.jsonl $(if $(PERCEPTUAL),--perceptual $(PERCEPTUAL))
	$(BIN)/python -m training report --results $(RUNS)/results.jsonl

model: $(EVERYTHING) ## fetch the photos of training/open_photos.csv and train the shipped model on them (hours; resumes)
	$(BIN)/python -m training fetch-photos training/open_photos.csv data/open
	$(BIN)/python -m training prepare data/open.csv data/open192 --licence open
	$(BIN)/python -m training train data/open192 runs/eye2face-128 --recipe eye2face-128 $(if $(PERCEPTUAL),--perceptual $(PERCEPTUAL))
	$(BIN)/python -m training train data/open192 runs/longer --recipe eye2face-128 --steps 1800 --seed 3 --start-from runs/eye2face-128 $(if $(PERCEPTUAL),--perceptual $(PERCEPTUAL))
	$(BIN)/python -m training train data/open192 runs/eye2face-192 --seed 4 --start-from runs/longer $(if $(PERCEPTUAL),--perceptual $(PERCEPTUAL))
	$(BIN)/python -m training export runs/eye2face-192 data/open192 runs/eye2face-192.onnx --licence-class open

clean: ## remove .venv, caches and build products; data/ and runs/ stay
	rm -rf .venv bench/.venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find eye2face service training tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(SERVICE): $(STAMPS)/venv pyproject.toml requirements/$(BUILD).txt
	@# The builds of ONNX Runtime are one module: the other one goes first.
	$(if $(OTHERS),$(BIN)/python -m pip uninstall --yes onnxruntime onnxruntime-gpu && rm -f $(OTHERS))
	$(INSTALL) --require-hashes --requirement requirements/$(BUILD).txt
	$(INSTALL) --no-deps --editable .
	@touch $@

$(EVERYTHING): $(SERVICE) constraints.txt
	$(INSTALL) --constraint constraints.txt --editable '.[bulk,c2pa,mqtt,otel,training,dev]'
	@touch $@

bench/.venv/.stamp: bench/requirements.txt bench/requirements-triton.txt
	$(PYTHON) -m venv bench/.venv
	bench/.venv/bin/python -m pip --disable-pip-version-check install --requirement bench/requirements.txt
	@# Triton's binaries are for Linux with glibc 2.35; elsewhere it fails and the others are measured.
	bench/.venv/bin/python -m pip --disable-pip-version-check install --no-deps --upgrade --target bench/.venv/triton \
	  --requirement bench/requirements-triton.txt || echo "Triton cannot be installed here: it is left out." >&2
	@touch $@

$(STAMPS)/venv:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "No $(PYTHON) here. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "eye2face needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	       "Name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments." \
	       "On Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@mkdir -p $(STAMPS) && touch $@

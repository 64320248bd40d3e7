# Everything a newcomer needs: `make demo`, `make test`. Both set the environment up themselves and reuse it afterwards.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.ONESHELL:

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cat requirements.txt settings.ini setup.py | cksum | cut -d' ' -f1)

# The kernel carries these for notebooks; nbdev_test starts no kernel, so they are set here as well.
export PYTHONHASHSEED := 42
export CUBLAS_WORKSPACE_CONFIG := :4096:8
# Two computing processes that wait by spinning bring each other to a crawl; these sleep while they wait.
export OMP_WAIT_POLICY := PASSIVE
export PATH := $(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export JUPYTER_PLATFORM_DIRS := 1

DEMO := $(or $(RTS_RUNS),runs)
CONFIG ?= configs/sample.yaml
NAME = $(basename $(notdir $(CONFIG)))
RUN = $(DEMO)/$(NAME)/seed-42

.PHONY: help env demo test clean-check readme prep kernel

help: ## what there is to make
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

env: $(STAMP) ## the environment, installed or finished if it was cut off

# The stamp is written last and named after what it was installed from: an install that was cut off, or is of other pins, has none.
$(STAMP):
	rm -f $(VENV)/.installed-*
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else f"rts_nb needs Python 3.11 or newer, this is {sys.version.split()[0]}; name another one: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	echo 'installing into $(VENV), some minutes the first time'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e '.[public]'
	$(BIN)/python -m ipykernel install --sys-prefix --name python3 --display-name python3 --env PYTHONHASHSEED 42 --env CUBLAS_WORKSPACE_CONFIG :4096:8 --env OMP_WAIT_POLICY PASSIVE >/dev/null
	if git rev-parse --git-dir >/dev/null 2>&1; then git config diff.ipynb.textconv '$(VENV)/bin/jupyter nbconvert --log-level=ERROR --to markdown --stdout'; fi
	touch $@

demo: $(STAMP) ## sample data, training, calibration and map, with executed notebooks (also: make demo CONFIG=configs/public.yaml)
	mkdir -p $(RUN)/notebooks
	papermill --inject-output-path nbs/20_train.ipynb $(RUN)/notebooks/20_train.ipynb -p config $(CONFIG)
	papermill --inject-output-path nbs/30_calibrate.ipynb $(RUN)/notebooks/30_calibrate.ipynb -p run_dir $(RUN)
	papermill --inject-output-path nbs/40_infer.ipynb $(RUN)/notebooks/40_infer.ipynb -p model_dir $(RUN) -p out_dir $(RUN)/map
	python -m rts_nb.train --collect $(RUN)
	echo "Done: reports in $(RUN)/notebooks/, model in $(RUN)/, map in $(RUN)/map/."

test: $(STAMP) ## everything CI checks
	runs=$$(mktemp -d); trap 'rm -rf "$$runs"' EXIT
	export RTS_RUNS="$$runs" RTS_CONFIG=configs/test.yaml
	nbdev_test --do_print
	python -m pytest -q tests

readme: $(STAMP) ## README.md from nbs/index.ipynb
	python tests/readme.py --write

prep: $(STAMP) ## export the package, clean the notebooks, write the README: before a commit
	nbdev_export
	nbdev_clean
	python tests/readme.py --write

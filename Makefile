# Everything a newcomer needs: `make demo`, `make test`. Both set the environment up themselves and reuse it afterwards.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.ONESHELL:

# The interpreter to make .venv with: the one below an active environment, never .venv's own.
PYTHON ?= python3
BASE_PYTHON := $(shell $(PYTHON) -c 'import sys, os; print(os.path.join(sys.base_prefix, "bin", "python%d.%d" % sys.version_info[:2]))')


# What has to be set before Python starts. The kernel and the activated environment carry these too; nbdev_test starts no kernel, so they are
# exported here as well. OMP_WAIT_POLICY: two computing processes that wait by spinning bring each other to a crawl. PYTORCH_ALLOC_CONF: a GPU's memory
# in segments that grow leaves no gaps between sizes that change, as they do where the encoder is freed. JUPYTER_PREFER_ENV_PATH: the kernel of this
# environment, also where another user installed it, and not a python3 in one's own ~/.local/share/jupyter.
SETTINGS := PYTHONHASHSEED=42 CUBLAS_WORKSPACE_CONFIG=:4096:8 OMP_WAIT_POLICY=PASSIVE MLFLOW_DISABLE_TELEMETRY=true NO_ALBUMENTATIONS_UPDATE=1 RAY_USAGE_STATS_ENABLED=0 PYTORCH_ALLOC_CONF=expandable_segments:True JUPYTER_PREFER_ENV_PATH=1
export $(foreach v,$(SETTINGS),$(firstword $(subst =, ,$(v))))
$(foreach v,$(SETTINGS),$(eval $(subst =,:=,$(v))))

# As settings.ini has it: pins of requirements.txt want 3.11.5, and on 3.12 nothing has been tried.
CHECK_PYTHON := import sys; sys.exit(None if (3, 11, 5) <= sys.version_info[:3] < (3, 12) else f"rts_nb needs Python 3.11, 3.11.5 or newer, and this is {sys.version.split()[0]}; name another one: make PYTHON=python3.11 ...")
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell (cat requirements.txt settings.ini setup.py; echo '$(SETTINGS)') | cksum | cut -d' ' -f1)
export PATH := $(CURDIR)/$(BIN):$(PATH)

# Reports print what a person waits for: an epoch a line, and of other long jobs a line a minute. papermill's own bar would be drawn over them.
PAPERMILL := papermill --no-progress-bar --stdout-file -
PAGES := python -m rts_nb.core.pages

RUN := $(or $(RTS_RUNS),runs)/sample/seed-42

# make seeds CONFIG=configs/baseline.yaml OVERRIDES="loss.name=tversky"
CONFIG ?=
OVERRIDES ?=
# make folds CONFIG=configs/baseline.yaml FOLDS=5 SEED=42; without FOLDS those of the config
FOLDS ?=
SEED ?= 42
# make faults MINUTES=40: of kills, for training and for inference each
MINUTES ?= 40
# make experiment NAME=loss, or NAME=loss/tversky-37; CONFIG is another base, BUDGET the USD for all of its runs
NAME ?=
BUDGET ?=
# make search CONFIG=configs/baseline.yaml TRIALS=40; SPACE is another file of ranges than configs/search/ranges.yaml
TRIALS ?= 40
SPACE ?=

.PHONY: help env demo seeds folds final release experiment search html docs test test-all bench faults gpu lint readme prep notebooks
.SILENT:

help: ## what there is to make
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

env: $(STAMP) ## the environment, installed or finished if it was cut off

# The stamp is written last and named after what it was installed from. An install that was cut off leaves its mark and is begun anew,
# since half a package can look like a whole one to pip. Two that start at once take turns.
$(STAMP):
	exec 9>.venv.lock; flock 9
	if test -e $@; then exit 0; fi
	if test -z '$(BASE_PYTHON)'; then echo '$(PYTHON) does not start; name another Python: make PYTHON=python3.11 ...' >&2; exit 1; fi
	'$(BASE_PYTHON)' -c '$(CHECK_PYTHON)'
	if test -e $(VENV)/.installing; then echo 'an earlier install into $(VENV) was cut off; beginning anew'; fi
	if test -e $(VENV)/.installing || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then '$(BASE_PYTHON)' -m venv --clear $(VENV); fi
	touch $(VENV)/.installing; rm -f $(VENV)/.installed-*
	echo 'installing into $(VENV): about 6 GB and some minutes, the first time only'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e '.[public,ray]'
	$(BIN)/python -m ipykernel install --sys-prefix --name python3 --display-name python3 $(foreach v,$(SETTINGS),--env $(subst =, ,$(v))) >/dev/null
	sed -i '/^export PYTHONHASHSEED/d' $(BIN)/activate; echo 'export $(SETTINGS)' >> $(BIN)/activate
	if git rev-parse --git-dir >/dev/null 2>&1; then git config diff.ipynb.textconv '$(BIN)/jupyter nbconvert --log-level=ERROR --to markdown --stdout'; fi
	rm $(VENV)/.installing; touch $@

demo: $(STAMP) ## sample data, training, calibration, map and its review, with executed notebooks
	mkdir -p "$(RUN)"/notebooks
	$(PAPERMILL) nbs/20_train.ipynb "$(RUN)"/notebooks/20_train.ipynb -p config configs/sample.yaml
	$(PAPERMILL) nbs/30_calibrate.ipynb "$(RUN)"/notebooks/30_calibrate.ipynb -p run_dir "$(RUN)" -p evaluate true -p compare none
	$(PAPERMILL) nbs/40_infer.ipynb "$(RUN)"/notebooks/40_infer.ipynb -p model_dir "$(RUN)" -p out_dir "$(RUN)"/map
	$(PAPERMILL) nbs/45_review.ipynb "$(RUN)"/notebooks/45_review.ipynb -p map_dir "$(RUN)"/map
	python -m rts_nb.train --collect "$(RUN)" &
	collecting=$$!
	$(PAGES) "$(RUN)"/notebooks
	python -m rts_nb.experiments.index "$(RUN)" >/dev/null
	wait $$collecting
	echo "Done. Open this page: $(RUN)/index.html"

# The number of folds of a config, and the folder of its runs.
define PLAN
if test -z "$(CONFIG)"; then echo 'name a config: make $@ CONFIG=configs/baseline.yaml' >&2; exit 1; fi
plan=$$(python -c 'import sys; from rts_nb.settings.config import load_config; from rts_nb.settings.places import run_path; cfg = load_config(sys.argv[1], sys.argv[2]); print(cfg.split.folds, run_path(cfg, sys.argv[2]).parent)' '$(CONFIG)' '$(OVERRIDES)' 2>&1 | tail -n 1) || { echo "$$plan" >&2; exit 1; }
folds="$${plan%% *}"; folder="$${plan#* }"
endef

# Trains the run in $$run, which is called $$what, unless it is finished. A run that was cut off is resumed.
define TRAINED
mkdir -p "$$run/notebooks"
if test -e "$$run/metrics.json" -a -e "$$run/model.safetensors"; then echo "$$what is trained"
else $(PAPERMILL) nbs/20_train.ipynb "$$run/notebooks/20_train.ipynb" -p config '$(CONFIG)' -p overrides '$(OVERRIDES)' -p seed $$seed -p fold $$fold; fi
endef

seeds: $(STAMP) ## CONFIG=configs/X.yaml: seeds 42, 43, 44 trained, calibrated and reported; what is finished is skipped
	$(PLAN)
	fold=-1
	for seed in 42 43 44; do
	  run="$$folder/seed-$$seed"; what="seed $$seed"
	  $(TRAINED)
	  if python -c 'import sys; from rts_nb.calibration.looks import recorded_look; recorded_look(sys.argv[1]) or sys.exit(1)' "$$run" 2>/dev/null; then echo "seed $$seed is calibrated and evaluated"
	  else $(PAPERMILL) nbs/30_calibrate.ipynb "$$run/notebooks/30_calibrate.ipynb" -p run_dir "$$run" -p evaluate true; fi
	  python -m rts_nb.train --collect "$$run"
	  $(PAGES) "$$run/notebooks"
	done
	$(PAPERMILL) nbs/50_report.ipynb "$$folder/50_report.ipynb" -p runs "'$$folder/seed-42' '$$folder/seed-43' '$$folder/seed-44'"
	$(PAGES) "$$folder/50_report.ipynb"
	echo "Done: the table is in $$folder/50_report.ipynb"

folds: override OVERRIDES += $(if $(FOLDS),split.folds=$(FOLDS))
folds: $(STAMP) ## CONFIG=configs/X.yaml FOLDS=5: a run a fold, and every region judged by a run that did not see it; what is finished is skipped
	$(PLAN)
	if test "$$folds" -lt 2; then echo 'split.folds is 0 in $(CONFIG); give their number: make folds CONFIG=$(CONFIG) FOLDS=5' >&2; exit 1; fi
	seed=$(SEED); runs=""
	for ((fold = 0; fold < folds; fold++)); do
	  run="$$folder/seed-$$seed-fold-$$fold"; what="fold $$fold"; runs="$$runs '$$run'"
	  $(TRAINED)
	  python -m rts_nb.train --collect "$$run"
	  $(PAGES) "$$run/notebooks"
	done
	report="$$folder/50_report-folds-seed-$$seed.ipynb"
	$(PAPERMILL) nbs/50_report.ipynb "$$report" -p runs "$${runs# }"
	python -c 'import sys; from rts_nb.experiments.folds import print_folds; print_folds(sys.argv[1])' "$${runs# }"
	$(PAGES) "$$report"
	echo "Done: the tables are in $$report"

final: override OVERRIDES += $(if $(FOLDS),split.folds=$(FOLDS))
final: $(STAMP) ## CONFIG=configs/X.yaml FOLDS=5: after make folds, a run on all train and val regions, calibrated by the folds
	$(PLAN)
	if test "$$folds" -lt 2; then echo 'split.folds is 0 in $(CONFIG); give their number: make final CONFIG=$(CONFIG) FOLDS=5' >&2; exit 1; fi
	seed=$(SEED); run="$$folder/seed-$$seed-final"
	for ((fold = 0; fold < folds; fold++)); do
	  if ! test -e "$$folder/seed-$$seed-fold-$$fold/metrics.json"; then echo "fold $$fold is not trained, and the folds calibrate a final fit: make folds CONFIG=$(CONFIG) FOLDS=$$folds" >&2; exit 1; fi
	done
	mkdir -p "$$run/notebooks"
	if test -e "$$run/metrics.json" -a -e "$$run/model.safetensors"; then echo "the final fit is trained"
	else $(PAPERMILL) nbs/20_train.ipynb "$$run/notebooks/20_train.ipynb" -p config '$(CONFIG)' -p overrides '$(OVERRIDES)' -p seed $$seed -p final true; fi
	$(PAPERMILL) nbs/30_calibrate.ipynb "$$run/notebooks/30_calibrate.ipynb" -p run_dir "$$run" -p compare none
	python -m rts_nb.train --collect "$$run"
	$(PAGES) "$$run/notebooks"
	echo "Done: $$run is trained on all train and val regions; its precision is not measured before a look: 30_calibrate -p run_dir $$run -p evaluate true"

experiment: $(STAMP) ## NAME=loss or loss/tversky-37, BUDGET=20: runs what a family of configs/experiments lacks, judges and reports it
	if test -z '$(NAME)'; then echo "name a family or an experiment: make experiment NAME=loss; there are $$(cd configs/experiments && echo *.yaml | sed 's/[.]yaml//g')" >&2; exit 1; fi
	python -m rts_nb.experiments.command $(NAME) --config '$(CONFIG)' --overrides '$(OVERRIDES)' $(if $(BUDGET),--budget '$(BUDGET)')

# make release RUN=runs/public/seed-42 LICENCE="CC BY 4.0" DATA_LICENCE="CC0" ENCODER_LICENCE="Apache-2.0"
LICENCE ?=
DATA_LICENCE ?=
ENCODER_LICENCE ?=

release: $(STAMP) ## RUN=runs/x/seed-42: a calibrated run or ensemble as one archive with card and checksums, for 40_infer -p model_dir
	python -m rts_nb.experiments.release '$(RUN)' $(if $(LICENCE),--licence '$(LICENCE)') $(if $(DATA_LICENCE),--data-licence '$(DATA_LICENCE)') $(if $(ENCODER_LICENCE),--encoder-licence '$(ENCODER_LICENCE)')

search: $(STAMP) ## CONFIG=configs/X.yaml TRIALS=40: Optuna over configs/search/ranges.yaml, each trial a run; the best is restated from fresh seeds
	if test -z '$(CONFIG)'; then echo 'name a config: make search CONFIG=configs/baseline.yaml TRIALS=40' >&2; exit 1; fi
	python -m rts_nb.experiments.search --config '$(CONFIG)' --overrides '$(OVERRIDES)' --trials '$(TRIALS)' --space '$(SPACE)'

html: $(STAMP) ## NOTEBOOK=out.ipynb: the page of an executed notebook, beside it; of a folder, the pages of all in it
	if test -z '$(NOTEBOOK)'; then echo 'name an executed notebook: make html NOTEBOOK=runs/sample/seed-42/notebooks/20_train.ipynb' >&2; exit 1; fi
	$(PAGES) '$(NOTEBOOK)'

docs: $(STAMP) ## the site of README, guides and notebooks, in build/site; then: python -m http.server -d build/site
	mkdir -p build
	python tools/site.py
	NO_MKDOCS_2_WARNING=1 mkdocs build --quiet -f build/mkdocs.yml
	echo "Done. python -m http.server -d build/site shows it at http://localhost:8000"

# A folder of runs of their own, so that tests neither see nor leave any; and no GPU: what a GPU does is checked by `make gpu`.
# One thread each: tests run in three processes, and threads that wait for one another's core make small networks slower, not faster.
define ISOLATED
runs=$$(mktemp -d); trap 'rm -rf "$$runs"' EXIT
export RTS_RUNS="$$runs" RTS_CONFIG=configs/test.yaml
unset MLFLOW_TRACKING_URI
export CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1
endef

# Three processes on two cores: tests often wait for programs that they started. Some 20 minutes, with nothing else running.
test: $(STAMP) ## everything CI checks
	$(ISOLATED)
	nbdev_test --do_print --timing --n_workers 3
	python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder --durations 20 tests --ignore tests/slow

test-all: $(STAMP) ## the same, then long simulations and more kills (an hour)
	$(ISOLATED)
	nbdev_test --do_print --timing --n_workers 3 --flags long
	RTS_KILLS=10 RTS_LONG=1 python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder tests

# Peers of the bench in an environment of their own, which sees .venv: torch and the rest are the same and not installed twice.
BENCH_VENV := .venv-bench
BENCH_STAMP := $(BENCH_VENV)/.installed-$(shell cksum <bench/peers.txt | cut -d' ' -f1)

$(BENCH_VENV): $(BENCH_STAMP)

$(BENCH_STAMP): $(STAMP) bench/peers.txt
	'$(BASE_PYTHON)' -m venv --clear $(BENCH_VENV)
	site=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
	own=$$($(BENCH_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
	echo "import site; site.addsitedir('$$site')" > "$$own/project.pth"
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r bench/peers.txt
	touch $@

# make bench BENCHES="data growth": those of bench/report.py alone; the others' rows stay as they are
BENCHES ?=

bench: $(STAMP) $(BENCH_STAMP) ## what things cost beside plain ways and other libraries, to docs/benchmarks.md (needs make demo; two to three hours, nothing else running)
	python -W ignore bench/report.py $(BENCHES)

faults: $(STAMP) ## MINUTES=40: kills at random moments and other faults, on tiny data, written to docs/faults.md (an hour and a half on two cores)
	$(ISOLATED)
	python -W ignore bench/faults.py --minutes $(MINUTES)

gpu: $(STAMP) ## what only a GPU can show: ten minutes on one, written to docs/gpu.md; on a CPU with small sizes
	bash bench/gpu.sh

readme: $(STAMP) ## README.md from nbs/index.ipynb
	python tools/readme.py --write

LINTED := nbs tests bench tools check_data.py setup.py

lint: $(STAMP) ## ruff and mypy, as tests and pre-commit run them
	ruff format --check $(LINTED)
	ruff check $(LINTED)
	mypy

prep: $(STAMP) ## format, export the package, clean the notebooks, write the README: before a commit
	ruff check --fix --quiet $(LINTED)
	ruff format --quiet $(LINTED)
	nbdev_export
	nbdev_clean
	python tools/readme.py --write

notebooks: $(STAMP) ## execute the notebooks whose outputs are of other code
	python tools/freshness.py --execute

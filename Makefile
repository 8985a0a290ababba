# make demo: the whole experiment on a small synthetic cohort; make test: linters and the tests of four minutes. Both need
# only Python 3.11 or newer, pip and make: they install the packages of envs/requirements.lock into .venv.

PYTHON ?= python3
BIN := .venv/bin
SHELL := /bin/bash
# Packages are compiled as they are imported, and each run is many processes: what is compiled is kept, always.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo study study-tables study-equal-steps study-equal-iterations report annotate annotate-demo view browser test test-all test-slurm test-slurm-faults lint lock clean

demo: .venv
	$(BIN)/snakemake --profile demo
	@test -e results/report.html && test -z "$$(find results/tables results/figures -newer results/report.html -print -quit)" \
		|| $(BIN)/snakemake --profile demo --report results/report.html
	@echo "Tables: results/tables, figures: results/figures, everything with captions: results/report.html"

# The study on the synthetic cohort, hours of two cores at low priority, in a folder outside of results/; it resumes.
# With equal steps for all strategies: make study EQUAL=config/study_equal_steps.yaml STUDY=../study-equal-steps
study: .venv
	nice -n 19 $(BIN)/snakemake --cores all --configfile config/study.yaml $(EQUAL) --directory $(STUDY) --rerun-incomplete --keep-going
STUDY ?= ../study

# The tables and figures of the study from its records, without training anything.
RECORDS ?= docs/study
study-tables: .venv
	$(BIN)/python benchmarks/study.py restore --records $(RECORDS) $(STUDY)
	$(BIN)/snakemake --cores all --configfile config/study.yaml $(EQUAL) $(STUDY)/recorded.yaml --directory $(STUDY) \
		--allowed-rules tables table plot paper_comparison overview claims --rerun-triggers mtime -- tables

# The sets that the study has annotated in the end, each trained for the same number of steps: benchmarks/study_equal_steps.py.
EQUALLY := rvs-5 uvs-5 rss-5 uss-5 aware-5
study-equal-steps: .venv
	nice -n 19 $(BIN)/snakemake --cores all --configfile config/study.yaml config/study_equal_steps.yaml $(STUDY)/recorded.yaml \
		--directory $(STUDY) --rerun-incomplete --keep-going --rerun-triggers mtime \
		--allowed-rules phantom_cohort check_cohort preprocess train predict evaluate \
		-- $(foreach seed,1 2 3 4 5,$(foreach model,$(EQUALLY),results/evaluation/seed$(seed)/$(model)/shard0.tsv))

# Of the study with equal steps the learning curves of USS and RSS alone, in a folder of their own and without the models
# until convergence: make study-equal-iterations STUDY=../iterations. A query asks for 9 slices, as in the study.
study-equal-iterations: .venv
	nice -n 19 $(BIN)/snakemake --cores all --configfile config/study.yaml config/study_equal_steps.yaml --directory $(STUDY) \
		--config "strategies=[uss, rss]" slices_per_iteration=9 \
		--rerun-incomplete --keep-going -- results/evaluation/annotations.tsv \
		results/evaluation/seed{1,2,3,4,5}/{initial,{uss,rss}-{1,2,3,4,5}}/shard0.tsv

# The report of the results in results/, as one file that needs no network. If the run had its own configuration:
# make report ARGUMENTS="--configfile my.yaml". The demo makes its report itself.
report: .venv
	$(BIN)/snakemake --report results/report.html $(ARGUMENTS)

# The page on which people annotate the slices that wait (annotator: people). If the run had its own configuration:
# make annotate ARGUMENTS="--configfile my.yaml". It prints an address, and goes on until Ctrl+C.
annotate: .venv
	@$(BIN)/slicesampling annotate $(ARGUMENTS)

# To try that page on synthetic slices, after make demo; answers go to the folder ../annotate-demo.
annotate-demo: .venv
	@$(BIN)/slicesampling annotate --demo --configfile config/demo.yaml $(ARGUMENTS)

# A page on which every volume of the run in results/ can be looked at: reference, predictions, queries, uncertainty. If
# the run had its own configuration: make view ARGUMENTS="--configfile my.yaml".
view: .venv
	@$(BIN)/slicesampling view $(ARGUMENTS)

# Before each commit: the laws of every module, on few examples, and one run of the smallest workflow.
test: .venv lint
	$(PYTEST) -m "not slow" --hypothesis-profile few

# Everything that needs no cluster. To run only what `make test` leaves out: make test-all ONLY="slow or hypothesis"
test-all: .venv lint browser
	$(PYTEST) -m "$(ONLY)"
ONLY ?=

# In two processes. A process that has no test left takes over some of the other's.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

# Installs the browser in which a test opens the report, if it is missing and can be installed.
browser:
	@if ! command -v chromedriver >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null; \
	fi

# On a real SLURM of two nodes, started on this machine (Debian, as root): the cluster profile, and its fault tolerance.
test-slurm: .venv
	$(BIN)/python -m pytest tests/slurm/test_profile.py

test-slurm-faults: .venv
	$(BIN)/python -m pytest tests/slurm

lint: .venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

# Installed again when the lock or pyproject.toml changes, with the library as it lies here, and its command. The stamp
# is written last, so that an incomplete installation is repeated. Python compiles what is imported when it is imported
# first: a third of the installation is compiling what never is.
.venv: .venv/stamp
.venv/stamp: envs/requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed; set PYTHON=...')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --requirement envs/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch .venv/stamp

# Write the lock again from pyproject.toml: the exact numbers of the newest versions that fit.
lock:
	rm -rf .lock && $(PYTHON) -m venv .lock
	.lock/bin/python -m pip install --quiet --disable-pip-version-check torch==$(TORCH)
	.lock/bin/python -m pip install --quiet --disable-pip-version-check '.[test]'
	(sed -n '/^#/p' envs/requirements.lock; .lock/bin/python -m pip freeze --all --exclude slicesampling --exclude pip | sed 's/+cpu$$//') > .lock/requirements
	mv .lock/requirements envs/requirements.lock && rm -rf .lock build
TORCH ?= 2.13.0

clean:
	rm -rf results/[!R]* .snakemake

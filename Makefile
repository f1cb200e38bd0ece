# Everything a person or a CI machine types. `make` alone lists it.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(abspath $(VENV))/bin
STAMP  := $(VENV)/.installed
CHROMIUM := apt-get -qq install -y --no-install-recommends chromium fonts-dejavu-core >/dev/null
.DEFAULT_GOAL := help
.PHONY: help env demo test test-slow test-machines test-pythons test-browser export nb hooks bench gpu gpu-pack dist docs lab clean

help:
	@echo "make env        install everything into $(VENV), once (minutes; mostly PyTorch)"
	@echo "make demo       fit and score the built-in data set, write runs/demo (minutes)"
	@echo "make test       notebooks and exports agree, all pages run and print what is stored, all tests pass (minutes)"
	@echo "make test-slow  the slow cells inside the notebooks, the slow tests, and the GPU tests where there is a GPU"
	@echo "make test-machines  the tests as other processors run them: capped instruction sets, one, four and eight threads, bfloat16, under autocast (two hours)"
	@echo "make test-pythons  a short part of the tests on each Python from 3.10 to 3.13 that is here, in .venv-3.10 and so on (an installation each)"
	@echo "make test-browser  the tutorials in a real JupyterLab and Chromium, every slider moved (installs Debian's Chromium where there is none)"
	@echo "make lab        open the start page in JupyterLab: the embedded set, your own folder, the paper"
	@echo "make export     write modules, tests and README anew from the notebooks (seconds)"
	@echo "make nb NB=paper/4  export, then run the notebooks whose paths begin so, and their tests (seconds)"
	@echo "make hooks      let git merge and clean notebooks in this clone"
	@echo "make bench      speed beside anomalib's models, in an environment of its own (gigabytes)"
	@echo "make gpu        all that a GPU should be asked, in steps of nine minutes that go on where they stopped; DEVICE=cpu QUICK=1 rehearses it"
	@echo "make gpu-pack   wheels and data (DATA=folder of sets) for a machine with a GPU and no network, in .gpu"
	@echo "make dist       the package in dist/, installed and run in an empty environment without the repository (minutes)"
	@echo "make docs       the documentation site from the stored notebooks, in _docs"
	@echo "make clean      delete $(VENV), build leftovers and caches (runs/ stays)"
	@echo
	@echo "make PYTHON=python3.12 VENV=some/folder ... chooses another Python and another place. Without an NVIDIA GPU,"
	@echo "PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make env saves gigabytes of CUDA packages."

env: $(STAMP)

# not on pyproject.toml: nbdev_export touches it each time, and what is installed stands in settings.ini
$(STAMP): settings.ini setup.py constraints.txt
	@echo "Installing into $(VENV) (once; 2 to 10 minutes, mostly PyTorch) ..."
	@$(PYTHON) -c "import sys; v = '.'.join(map(str, sys.version_info[:2])); sys.exit(f'$(PYTHON) is Python {v}, but 3.10 or newer is needed; say make PYTHON=...' if sys.version_info < (3, 10) else 0)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,lab,export]"
	@$(BIN)/python tools/dev_scripts.py
	@touch $@
	@echo "Installed. To use it in this shell: source $(VENV)/bin/activate"

demo: env
	@echo "Fitting and scoring the built-in data set (minutes on two CPU cores); results in runs/demo ..."
	@$(BIN)/grad_demo --out runs/demo

test: env
	@echo "Checking that notebooks and exports agree, then running the pages and the tests (minutes) ..."
	@$(BIN)/python tools/check_export.py
	@$(BIN)/ruff check --quiet nbs tools setup.py
	@$(BIN)/python tools/pages.py
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow and not gpu and not browser" -n auto --dist worksteal

test-slow: env
	@echo "Running the slow cells of the notebooks, then the slow and the GPU tests (many minutes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[scale]"
	@$(BIN)/nbdev_test --flags slow --do-print --timing
	@$(BIN)/python -m pytest -q -m "slow or gpu"
	@HYPOTHESIS_PROFILE=wide $(BIN)/python -m pytest -q -m "not slow" tests/test_properties.py

FAST = -m pytest -q -m "not slow and not gpu and not browser"
test-machines: env
	@echo "One thread, instruction sets capped at AVX (OpenVINO has nothing below) ..."
	@OMP_NUM_THREADS=1 ONEDNN_MAX_CPU_ISA=AVX ATEN_CPU_CAPABILITY=default MKL_ENABLE_INSTRUCTIONS=SSE4_2 $(BIN)/python $(FAST)
	@echo "Four threads, capped at AVX2 ..."
	@OMP_NUM_THREADS=4 ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 $(BIN)/python $(FAST)
	@echo "bfloat16 wherever the precision is left open ..."
	@GRAD_KIT_TEST_PRECISION=bfloat16 $(BIN)/python $(FAST)
	@echo "Eight threads ..."
	@OMP_NUM_THREADS=8 $(BIN)/python $(FAST)
	@echo "Called by a program that computes under autocast ..."
	@GRAD_KIT_TEST_CALLER=autocast $(BIN)/python $(FAST)

# pyenv's and uv's Pythons are found too; the base alone is installed, and what the chosen tests import
SHORT = $(addprefix tests/test_,base_config.py base_files.py paper_reweight.py paper_detector.py closed_form_density.py model_scorers.py)
PYTHONS = 3.10 3.11 3.12 3.13
test-pythons:
	@for v in $(PYTHONS); do \
	  p=$$(for c in python$$v $$HOME/.pyenv/versions/$$v.*/bin/python $$(uv python find $$v 2>/dev/null); do $$c -c 0 2>/dev/null && echo $$c && break; done); \
	  test -n "$$p" || { said="$$said\nPython $$v: skipped, it is not on this machine (uv python install $$v)"; continue; }; \
	  echo "Installing for Python $$v into .venv-$$v, then testing ..."; \
	  { test -x .venv-$$v/bin/python || $$p -m venv .venv-$$v; } && .venv-$$v/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . pytest \
	    && .venv-$$v/bin/python $(FAST) -p no:cacheprovider $(SHORT) && said="$$said\nPython $$v: passed" || { said="$$said\nPython $$v: FAILED"; bad=1; }; \
	done; printf "$$said\n"; test -z "$$bad"

test-browser: env
	@echo "Running the tutorials in JupyterLab and Chromium (minutes); screenshots in runs/browser ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[browser]"
	@for c in chromium chromium-browser google-chrome; do command -v $$c >/dev/null && exit 0; done; echo "Installing Debian's Chromium (needs root) ..."; \
	  $(CHROMIUM) || { apt-get -qq update && $(CHROMIUM); } || echo "Chromium cannot be installed here: the tests below skip"
	@$(BIN)/python -m pytest -q -rs -m browser -n 2 --dist worksteal tests/test_browser.py tests/test_browser_why.py

lab: env
	@echo "Starting JupyterLab; Ctrl-C twice ends it ..."
	@$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/nbs/start.ipynb $(LAB_FLAGS)

# what was out of step is said the first time; the second time nothing may be
export: env
	@$(BIN)/python tools/check_export.py || $(BIN)/python tools/check_export.py

nb: export
	@test -n "$(NB)" || { echo "say which: make nb NB=paper/4, or NB=paper for a folder"; exit 2; }
	@ls nbs/$(NB)* >/dev/null 2>&1 || { echo "nbs/ has no notebook whose path begins with '$(NB)'"; exit 2; }
	@set -e; for f in $$(find nbs -path 'nbs/$(NB)*.ipynb' -not -path '*/.*' | sort); do echo "$$f ..."; $(BIN)/nbdev_test $$f --do-print; \
	  t=tests/test_$$(sed -n 's/.*#| default_exp \([a-z0-9_.]*\).*/\1/p' $$f | tr . _).py; \
	  if test -f $$t; then $(BIN)/python -m pytest -q -m "not slow and not gpu and not browser" $$t; fi; done

hooks: env
	@$(BIN)/nbdev_install_hooks

bench:
	@echo "Building .venv-bench, whose torch has a torchvision that fits it, for anomalib (once; gigabytes) ..."
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -e ".[export,bench]"
	@echo "Measuring ours and anomalib's in one run (20 minutes on two cores) ..."
	@.venv-bench/bin/python tools/peers.py --out runs/bench

gpu-pack: env
	@echo "Packing what a machine without network needs, into .gpu ..."
	@$(BIN)/python tools/gpu.py pack $(if $(DATA),--data $(DATA))

# with the machine's own PyTorch where there is no environment of ours
GPU_PYTHON = $(if $(wildcard $(BIN)/python),$(BIN)/python,python3)
gpu:
	@echo "Asking the GPU all that waits for one (nine minutes a call at most) ..."
	@$(GPU_PYTHON) tools/gpu.py run --device $(or $(DEVICE),cuda) $(if $(QUICK),--quick) $(GPU_FLAGS)

dist: env
	@echo "Building the package, installing it where there is no repository, and running it there (minutes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dist]"
	@rm -rf dist && $(BIN)/python -m build --outdir dist . >/dev/null && $(BIN)/python -m twine check --strict dist/*
	@$(BIN)/python tools/dist.py dist/*.whl

docs: env
	@echo "Building the documentation site ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	@$(BIN)/python tools/docs.py
	@echo "Open _docs/index.html"

clean:
	@echo "Deleting $(VENV), build leftovers and caches ..."
	@test ! -f "$(VENV)/pyvenv.cfg" || rm -rf "$(VENV)"
	@rm -rf .venv-bench .venv-3.* build dist *.egg-info .pytest_cache _proc _docs
	@find grad_kit tests tools nbs -depth \( -name __pycache__ -o -name .ipynb_checkpoints \) -exec rm -rf {} +

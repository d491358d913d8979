# Every target sets up what it needs; Python 3.11 and make are enough to start.

PYTHON ?= python3
# Where to find torch wheels without CUDA, e.g. https://download.pytorch.org/whl/cpu. Empty: the default index.
TORCH_INDEX ?=
# The folder with the real inputs. The tests that need them find them through this.
STAGEWISE_SHARED ?= ../shared
# Test processes at a time.
JOBS ?= 2
PYTEST_ARGS ?=
export STAGEWISE_SHARED

DEMO := .venv-demo
VENV := .venv
PIP := -m pip install -qq --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-all suites suites-check notebooks bench study lint clean

help:
	@echo "make demo   scores -> curves -> classes -> suite on real results (base install, no torch)"
	@echo "make test   import contract, ruff, all tests but four slow ones; make test-all runs those too"
	@echo "make suites regenerate the committed suites; make suites-check: do they follow from their scores?"
	@echo "make notebooks  run notebooks/*.py and write the .ipynb beside each, with its outputs"
	@echo "make bench  timings, as ratios measured in one run"
	@echo "make study  calibration figures from seeded simulations"
	@echo "make lint   ruff, pyright, import contract"
	@echo "make clean  remove virtual environments, caches, build folders"
	@echo
	@echo "PYTHON=$(PYTHON)  TORCH_INDEX=$(TORCH_INDEX)  STAGEWISE_SHARED=$(STAGEWISE_SHARED)  JOBS=$(JOBS)  PYTEST_ARGS=$(PYTEST_ARGS)"

demo: $(DEMO)/.installed
	@$(DEMO)/bin/python -m evalsuite.demo

# One thread of arithmetic a process: more only wait for each other. A worker keeps its half of the tests, and so its
# fixtures, until the other has none left.
test test-all: $(VENV)/.installed
	@$(VENV)/bin/lint-imports --no-cache
	@$(VENV)/bin/python -m ruff check .
	@OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n $(JOBS) --dist worksteal \
	  $(if $(filter test,$@),-m "not slow") $(PYTEST_ARGS)

# public.yaml is built beside sources/, so that its first lines name no place on a machine: that folder holds the
# archives, or what `scaling fetch` put there.
suites suites-check: $(VENV)/.installed
	@for stage in early mid late; do \
	  $(VENV)/bin/evalsuite build --scores ladder --settings ladder --stage $$stage $(LADDER_METRICS) \
	    -o evalsuite/suites/$$stage.yaml $(CHECK) || exit; \
	done
	@if [ -d "$(STAGEWISE_SHARED)/sources" ]; then cd "$(STAGEWISE_SHARED)" && \
	  "$(CURDIR)/$(VENV)/bin/evalsuite" build --scores sources --stage 1e18..1e22 $(PUBLIC_METRICS) --budget 20% \
	    -o "$(CURDIR)/evalsuite/suites/public.yaml" $(CHECK); \
	else echo "public.yaml: left as it is, no $(STAGEWISE_SHARED)/sources"; fi

suites-check: CHECK := --check
# A hundred draws tell classes as well as two hundred, and the tests build all three.
LADDER_METRICS := --metric acc --metric bpb --replicates 100
PUBLIC_METRICS := --metric acc --metric acc_norm --metric bpb

# NOTEBOOKS="1 4" runs only these.
notebooks: $(VENV)/.installed
	@$(VENV)/bin/python -m tests.notebooks $(NOTEBOOKS)

bench: $(VENV)/.installed
	@$(VENV)/bin/python -m tests.bench

study: $(VENV)/.installed
	@$(VENV)/bin/python -m tests.study

lint: $(VENV)/.installed-lint
	@$(VENV)/bin/python -m ruff check .
	@$(VENV)/bin/python -m pyright --pythonpath $(VENV)/bin/python
	@$(VENV)/bin/lint-imports --no-cache

clean:
	rm -rf $(DEMO) $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find scaling evalsuite train data tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an install that was cut off is taken up again, a finished one costs nothing.
# $(1) folder, $(2) what to install, $(3) further pip options
define install
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] + ": try make PYTHON=python3.11")'
	@$(1)/bin/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(1)
	@echo "installing $(2) into $(1)"
	@$(1)/bin/python $(PIP) $(3) $(2)
	@touch $@
endef

$(DEMO)/.installed: pyproject.toml constraints.txt
	$(call install,$(DEMO),-e .)

$(VENV)/.installed: pyproject.toml constraints.txt
	$(call install,$(VENV),-e ".[eval$(comma)train$(comma)test]",$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)))

$(VENV)/.installed-lint: $(VENV)/.installed
	$(call install,$(VENV),-e ".[lint]")

comma := ,

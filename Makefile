# One command each; every target first sets up what it needs, and does nothing twice.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
HTML := _build/html

NOTEBOOKS := $(wildcard book/*.ipynb)
PAGES := $(NOTEBOOKS) $(wildcard book/*.md) book/references.bib
PACKAGE := $(shell find anabook -name '*.py' 2>/dev/null)
STATIC := $(shell find book/_static book/_live -type f -not -path '*/__pycache__/*')
CONFIGURATION := _config.yml _toc.yml book/pages.toml book/search.toml $(wildcard book/_ext/*.py) requirements.txt

# Python in the page: LIVE=0 leaves it out. ANABOOK_PYODIDE=folder takes official Pyodide in place of the pinned engine.
LIVE ?= 1
export ANABOOK_LIVE := $(LIVE)
ENGINE := $(if $(filter 0,$(LIVE))$(ANABOOK_PYODIDE),,.venv/.live)
PACKING := book/live.toml tools/live_pack.py tools/live_cells.py data/ledger.toml $(wildcard data/results/*.jsonl)

# The oldest torch that pyproject.toml allows, with the torchvision that belongs to it.
OLDEST := $(shell sed -n 's/^ *"\(torch\|torchvision\)>=\(.*\)",/\1==\2.*/p' pyproject.toml)

# What only its tests of exports need; the package does not.
ONNX := onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0

# All of training but the densities of one's own, whose tests spend their time in SymPy and NumPy.
ON_OLDEST := $(filter-out tests/test_training_densities.py,$(wildcard tests/test_training_*.py))

# Tests start Python many times, and each start would compile the package anew where the environment forbids to keep that.
# Some of these take a thread for each core: beside other tests, threads that wait by counting take the time of those that work.
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
WORKERS ?= 2

.PHONY: help setup site slides pdf figures lint test test-unit test-notebooks test-site test-browser test-oldest notebooks bench study clean

help: ## show this list
	@echo 'anabook: the book and the package. Targets:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'
	@echo
	@echo 'PYTHON=/path/to/python3.11 chooses the interpreter that .venv is made of;'
	@echo 'ANABOOK_REPOSITORY=https://… make site shows the repository and launch buttons.'
	@echo 'make pdf CHAPTERS="02-noise 04-zoo" prints these pages only.'
	@echo 'make LIVE=0 … leaves out Python in the pages, and does not load its engine.'

setup: .venv/.stamp $(ENGINE) ## make .venv with the exact versions of requirements.txt and the package

.venv/.stamp: requirements.txt pyproject.toml
	@[ -n '$(PYTHON)' ] || { echo 'setup: no python3 found; install Python 3.11 or later, or say PYTHON=/path/to/python make …' >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; v = "%d.%d" % sys.version_info[:2]; sys.exit(0 if sys.version_info >= (3, 11) else "setup: $(PYTHON) is Python " + v + "; the book needs 3.11 or later: say PYTHON=/path/to/python3.11 make …")'
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { echo 'setup: $(PYTHON) comes without venv; on Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@if [ ! -x $(BIN)/python ]; then echo 'setup: making .venv with $(PYTHON)'; '$(PYTHON)' -m venv .venv; fi
	@echo 'setup: installing the versions of requirements.txt (a few minutes and about 7 GB the first time, nearly all of it torch)'
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements.txt
	@echo 'setup: installing the package'
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-build-isolation --no-deps --editable .
	@touch $@
	@echo 'setup: done'

# The engine has no use for what it depends on, which is for running it outside of browsers.
.venv/.live: requirements-live.txt .venv/.stamp
	@echo 'setup: installing Python for the pages (98 MB; LIVE=0 does without)'
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --require-hashes --only-binary :all: -r $<
	@touch $@

site: _build/.site ## build the book into _build/html
	@echo 'site: $(HTML)/index.html is up to date; to read it: $(BIN)/python -m http.server -d $(HTML) 8000'

# Settings, table of contents and extensions show on every page, so a change of these starts afresh.
_build/.configuration: $(CONFIGURATION) .venv/.stamp
	@rm -rf _build/html _build/.doctrees _build/.site
	@mkdir -p _build
	@touch $@

# Changes when the pages are to be built with another engine, or with none.
_build/.live-%:
	@mkdir -p _build && rm -f _build/.live-* && touch $@

# A build with warnings fails, and forgets what it has read: the next one must not pass because it looks at less.
_build/.site: $(PAGES) $(PACKAGE) $(STATIC) $(PACKING) $(ENGINE) _build/.configuration _build/.live-$(LIVE)$(if $(ANABOOK_PYODIDE),-own)
	@echo 'site: building the pages'
	@$(BIN)/jupyter-book build . -W -n --keep-going --quiet || { rm -rf _build/.doctrees; echo 'site: FAILED, see the warnings above' >&2; exit 1; }
	@touch $@

slides: .venv/.stamp ## the lecture's slides with speaker notes, as HTML and as PDFs: _build/slides
	@$(BIN)/python tools/slides.py --pdf both

pdf: _build/.site ## print the site: a PDF of each page, and _build/pdf/anabook.pdf of all (minutes; SOLUTIONS=shown adds them)
	@$(BIN)/python tools/pdf.py --solutions $(or $(SOLUTIONS),hidden) $(if $(CHAPTERS),--chapters $(CHAPTERS))

figures: .venv/.stamp ## every figure of the book as SVG and PDF, with captions and alternative texts: _build/figures
	@$(BIN)/python tools/figure_pack.py

lint: .venv/.stamp ## style, format and types of the code, by ruff and mypy (a minute)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# The site is built beside the notebooks, since it takes one core alone; its own stage waits for it.
test: .venv/.stamp ## unit tests, stored outputs, the site without warnings, every page in a browser
	@mkdir -p _build/test
	@summary=; failed=0; site=; trap '[ -z "$$site" ] || kill -- -$$site' EXIT; \
	run() { \
		if [ $$1 = notebooks ]; then set -m; $(MAKE) --no-print-directory test-site > _build/test/site.log 2>&1 & site=$$!; set +m; fi; \
		if [ $$1 = site ]; then wait $$site && status=0 || status=$$?; site=; cat _build/test/site.log; return $$status; fi; \
		$(MAKE) --no-print-directory test-$$1 2>&1 | tee _build/test/$$1.log; \
	}; \
	for stage in unit notebooks site browser; do \
		echo; echo "test: $$stage"; start=$$SECONDS; \
		if run $$stage; then verdict=passed; else verdict=FAILED; failed=1; fi; \
		last=$$(grep -v '^make' _build/test/$$stage.log | tail -n 1); \
		summary+=$$(printf 'test: %-9s %s in %d s · %s' "$$stage" "$$verdict" $$((SECONDS - start)) "$$last")$$'\n'; \
	done; \
	echo; printf '%s' "$$summary"; \
	grep -h '^SKIPPED' _build/test/browser.log || true; \
	if [ $$failed = 0 ]; then echo 'test: all stages passed'; else echo 'test: FAILED' >&2; exit 1; fi

test-unit: .venv/.stamp ## only the tests of the package, and the examples in its docstrings
	@$(PYTEST) -q -rs -n $(WORKERS) --dist worksteal --doctest-modules --ignore=tests/browser tests anabook

test-notebooks: .venv/.stamp ## only the stored outputs of every chapter, recomputed
	@$(PYTEST) -q -n $(WORKERS) --dist loadfile --nbval --nbval-current-env $(NOTEBOOKS)

# Afresh, because a page that has not changed can still refer to something that is gone.
test-site: ## only the site, built afresh without a warning
	@rm -rf _build/.doctrees _build/.site
	@$(MAKE) --no-print-directory site

test-browser: _build/.site ## only the pages, each opened in a browser
	@$(PYTEST) -q -rs -n $(WORKERS) tests/browser

# What the training tests need, in the versions of requirements.txt, and nothing of the book, of speech or of clusters.
# Without Brevitas, too, which one comparison in tests/test_training_fit_ste.py asks for: that one runs in `make test`.
.venv-oldest/.stamp: requirements.txt pyproject.toml
	@[ -n '$(PYTHON)' ] || { echo 'test-oldest: no python3 found; say PYTHON=/path/to/python make …' >&2; exit 1; }
	@if [ ! -x .venv-oldest/bin/python ]; then '$(PYTHON)' -m venv .venv-oldest; fi
	@echo 'test-oldest: installing $(OLDEST) (about 7 GB the first time)'
	@grep -v '^torch' requirements.txt > .venv-oldest/pins.txt
	@.venv-oldest/bin/python -m pip install --disable-pip-version-check --quiet -c .venv-oldest/pins.txt $(OLDEST) \
		numpy scipy sympy matplotlib scikit-learn tqdm pytest pytest-xdist hypothesis $(ONNX)
	@touch $@

test-oldest: .venv-oldest/.stamp ## the training tests on the oldest torch that pyproject.toml allows (minutes)
	@OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -q -rs -n $(WORKERS) --dist loadfile $(ON_OLDEST)

notebooks: .venv/.stamp ## execute every chapter in place
	@$(BIN)/python tools/notebooks.py

bench: .venv/.stamp ## measure kernels, calls and training steps against what else there is: benchmarks/RESULTS.md (minutes)
	@$(BIN)/python benchmarks/run.py

study: .venv/.stamp ## measure what is missing of the studies that chapters show: make study NAME=intervals (minutes to hours)
	@$(BIN)/python -m studies $(NAME)

clean: ## remove the built site and caches; the environments and downloaded data stay
	rm -rf _build build anabook.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find anabook book tests tools studies benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

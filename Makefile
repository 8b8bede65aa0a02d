# Targets run in .venv, which is made when it is missing or older than the two files that say what it holds.
PYTHON ?= python3
RUN := .venv/bin/python
CODE := $(wildcard kseq tests tasks benchmarks)

.DEFAULT_GOAL := help
.PHONY: help caption translate summarize transcribe classify tag entail compose verse test test-slow lint format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s  %s\n", $$1, $$2 }' Makefile
	@echo "ARGS='…' is handed on by the tasks, test and test-slow; PYTHON=… is the Python that .venv is made from."

caption: .venv/.stamp ## train a captioning model, measure it, draw its attention, export it
	$(RUN) -m kseq.tasks.caption --resume $(ARGS)

translate: .venv/.stamp ## train a translator of spelled numbers, measure it, draw its attention, export it
	$(RUN) -m kseq.tasks.translate --resume $(ARGS)

classify: .venv/.stamp ## train a classifier of phrases, measure it, colour the words that decided, export it
	$(RUN) -m kseq.tasks.classify --resume $(ARGS)

tag: .venv/.stamp ## train a tagger of orders, measure it, colour the spans that it finds, export it
	$(RUN) -m kseq.tasks.tag --resume $(ARGS)

entail: .venv/.stamp ## train a judge of claims, measure it, draw its attention, export it
	$(RUN) -m kseq.tasks.entail --resume $(ARGS)

compose: .venv/.stamp ## train a composer of scales and arpeggios, measure it, draw its music, export it
	$(RUN) -m kseq.tasks.compose --resume $(ARGS)

summarize: .venv/.stamp ## train a model that says who got what from whom, measure it, draw its attention, export it
	$(RUN) -m kseq.tasks.summarize --resume $(ARGS)

transcribe: .venv/.stamp ## train a recogniser of tones, measure it, draw its attention, export it
	$(RUN) -m kseq.tasks.transcribe --resume $(ARGS)

verse: .venv/.stamp ## train a poet that answers lines word by word, measure it, draw its attention, export it
	$(RUN) -m kseq.tasks.verse --resume $(ARGS)

# Keeps bytecode even where the environment turns it off: otherwise each worker of pytest, and each program that a test
# starts, compiles all modules again.
test test-slow: export PYTHONDONTWRITEBYTECODE =

test: .venv/.stamp ## run the quick tests
	$(RUN) -m pytest -q -n 2 --dist loadfile $(ARGS)

test-slow: .venv/.stamp ## run the tests that train models
	$(RUN) -m pytest -q -m slow -n 2 --dist loadfile $(ARGS)

lint: .venv/.stamp ## check the code and its format
	$(RUN) -m ruff check $(CODE)
	$(RUN) -m ruff format --check $(CODE)

format: .venv/.stamp ## put the code in order
	$(RUN) -m ruff check --fix $(CODE)
	$(RUN) -m ruff format $(CODE)

clean: ## remove .venv, builds and caches; runs/ and data/ stay
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# An interrupted install can look whole to pip: it is marked and thrown away. The stamp comes last.
# A .venv that was made by hand (it has neither mark nor stamp) is only added to.
.venv/.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	  echo "kseq needs Python 3.11, 3.12 or 3.13 (TensorFlow 2.21 has no other), and $(PYTHON) is none:" >&2; \
	  echo "  make $(or $(MAKECMDGOALS),help) PYTHON=python3.11" >&2; exit 1; }
	@test ! -e .venv/.unfinished || rm -rf .venv
	@echo "Installing into .venv, 2.5 GB: a few minutes, in which nothing more is printed."
	@test -d .venv -a ! -e $@ || { mkdir -p .venv && touch .venv/.unfinished; }
	@$(PYTHON) -m venv .venv
	@$(RUN) -m pip install --quiet --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@# On all cores, where pip would use one. What packages bring for other versions of Python cannot be compiled.
	@$(RUN) -m compileall -qq -j 0 .venv/lib || true
	@rm -f .venv/.unfinished && touch $@

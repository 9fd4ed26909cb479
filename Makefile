# Every verb of the project; `make help` lists them. `make demo` and `make test` do all their set-up themselves.
PYTHON ?= /usr/bin/python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := build/.setup-done

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench clean

help:            ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

setup: $(STAMP)  ## Debian packages, virtual environment, compiled extension, demo image

$(STAMP): setup.py pyproject.toml cloud/pyproject.toml $(wildcard src/_fastpath/*) tests/kit/setup.sh
	bash tests/kit/setup.sh $(PYTHON)
	@mkdir -p build && touch $@

clean:           ## remove everything that was built
	rm -rf build dist $(VENV) src/*.egg-info cloud/*.egg-info

# tddfa_ros: each target does all of its own set-up first; what is done stays done.
#
#   make demo   a real video through the nodes; annotated mp4, faces.jsonl and a bag in out/demo
#               INPUT=<video|image|folder|bag|webcam number>  MODEL_SET=<name or path>  DEMO_ARGS=...
#   make test   build and run the tests                       TEST_ARGS="-k pose"
#   make bench  speed of every stage, and from image to faces across processes, beside what it
#               must be                                       BENCH_ARGS="--json bench.json"
#   make lint   format, style, types and spelling
#   make setup  only the set-up, for `source env.sh`
#
# PYTHON=python3.12 chooses the Python of .venv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup tools demo test bench lint format clean

INPUT ?=
MODEL_SET ?=
DEMO_ARGS ?=
TEST_ARGS ?=
BENCH_ARGS ?=
OUT ?= out/demo
# Their values reach the commands as they are, whatever quotes are in them.
export PYTHON INPUT MODEL_SET OUT

IN_WORKSPACE := . ./env.sh && exec

help:
	@sed -n 's/^# \{0,1\}//;2,12p' Makefile

tools:
	@config/setup/setup.sh tools

setup:
	@config/setup/setup.sh workspace

demo: setup
	@$(IN_WORKSPACE) python -m tddfa_ros demo $(if $(INPUT),--input "$$INPUT") \
		$(if $(MODEL_SET),--model-set "$$MODEL_SET") --out "$$OUT" $(DEMO_ARGS)

# Two processes: on two cores a third gains nothing. pytest-xdist would start the files with the most
# tests first; test/conftest.py knows better.
test:
	@config/setup/setup.sh tests
	@$(IN_WORKSPACE) python -m pytest test -n 2 --dist loadfile --no-loadscope-reorder $(TEST_ARGS)

bench: setup
	@$(IN_WORKSPACE) python -m tddfa_ros bench $(if $(MODEL_SET),--model-set "$$MODEL_SET") $(BENCH_ARGS)
	@$(IN_WORKSPACE) python bench/latency.py --all $(if $(MODEL_SET),--model-set "$$MODEL_SET")

lint: tools
	@. ./env.sh; status=0; \
	ruff format --check . || status=1; \
	ruff check . || status=1; \
	mypy || status=1; \
	codespell || status=1; \
	exit $$status

format: tools
	@. ./env.sh; ruff format . ; ruff check --fix .

clean:
	rm -rf build install log out .pytest_cache .hypothesis .ruff_cache .mypy_cache

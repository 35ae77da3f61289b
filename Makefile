# Every target uses one virtual environment, .venv, which it makes and fills with what the target needs.
# An empty stamp file in .venv records each finished installation, so that a second run starts at once.
# It needs a POSIX shell: on Windows, that of Git.
PYTHON ?= python3
# An index with CPU builds of PyTorch, such as https://download.pytorch.org/whl/cpu.
TORCH_INDEX ?=
# The folder of what is measured; WRITE=docs replaces the pages that are committed.
WRITE ?= output
BENCH_SUITE ?= cpu
BENCH_ARGS ?=
PTX_REPORT_ARGS ?=
GPU_FOLDER ?= gpu-check
GPU_ARGS ?=
PYTEST_ARGS ?=
FUZZ_ARGS ?=
HOSTILE_ARGS ?=

VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -e
PICTURES := examples/output
SITE := docs/_build/html

# What each extra downloads into a new environment: on Linux, there with a CPU build of PyTorch, on
# macOS, on Windows (scripts/measure_downloads.py).
DOWNLOADS_examples := 2.9 0.3 0.2 0.2
DOWNLOADS_test := 3.0 0.5 0.2 0.4
DOWNLOADS_clients := 2.9 0.4 0.2 0.3
DOWNLOADS_bench := 2.9 0.4 0.2 0.3
DOWNLOADS_docs := 2.9 0.4 0.3 0.3
DOWNLOADS_lint := 0.1 0.1 0.1 0.1
DOWNLOADS_cuda := 0.1 0.1 0.1 0.1
DOWNLOADS_package := 0.1 0.1 0.1 0.1
EXTRAS := $(patsubst DOWNLOADS_%,%,$(filter DOWNLOADS_%,$(.VARIABLES)))
COLUMN := $(if $(filter Windows_NT,$(OS)),4,$(if $(filter Darwin,$(shell uname)),3,$(if $(TORCH_INDEX),2,1)))
gigabytes = $(word $(COLUMN),$(DOWNLOADS_$(1))) GB
IS_LARGE = $(filter 2.% 3.%,$(call gigabytes,$(1)))
CPU_INDEX := TORCH_INDEX=https://download.pytorch.org/whl/cpu
OF_PYTORCH := Most of that is CUDA libraries for PyTorch. To install a CPU build instead, add $(CPU_INDEX)

.PHONY: help demo test test-clients fuzz fuzz-structures fuzz-hostile lint format bench ptx-report gpu-check accuracy formulas docs package clean

# What stands after ## is the help.
help: ## say what there is to make
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "The first run of a target installs what it needs into $(VENV): 1 to 3 minutes with 2 cores. It downloads up to"
	@echo "   $(foreach extra,$(sort $(EXTRAS)), $(extra) $(call gigabytes,$(extra)) )"
	@echo "On Linux most of that is CUDA libraries for PyTorch. To install a CPU build instead (0.2 GB), add"
	@echo "    $(CPU_INDEX)"

demo: $(VENV)/stamp-examples ## run five examples in about a minute, and say where their pictures are
	$(BIN)/python examples/sum_reduction_numpy.py $(PICTURES)/sum_reduction_numpy.png
	$(BIN)/python examples/sum_reduction_torch.py $(PICTURES)/sum_reduction_torch.png
	$(BIN)/python scripts/draw_examples.py $(PICTURES) nearest_neighbours kernel_density kriging
	@echo "Pictures:"
	@ls -1 $(CURDIR)/$(PICTURES)/*.png

test: $(VENV)/stamp-test ## run the tests, 5 to 10 minutes with 2 cores (PYTEST_ARGS=--all: every variant, in hours)
	$(BIN)/python -m pytest -n auto --dist worksteal $(PYTEST_ARGS)

test-clients: $(VENV)/stamp-clients ## run the tests of packages that call KeOps, 2 to 3 minutes
	$(BIN)/python -m pytest tests/clients $(PYTEST_ARGS)

fuzz: $(VENV)/stamp-test ## compare 20,000 random cases with a dense reference, in an hour or two (FUZZ_ARGS=...)
	$(BIN)/python scripts/fuzz.py $(FUZZ_ARGS)

fuzz-structures: $(VENV)/stamp-test ## the same for 100,000 of dimensions, lists and sizes, in half an hour
	$(BIN)/python scripts/fuzz.py --structures --cases 100000 $(FUZZ_ARGS)

fuzz-hostile: $(VENV)/stamp-test ## hand over 100,000 hostile formulas, options and arguments, in half an hour or more (HOSTILE_ARGS=...)
	$(BIN)/python scripts/fuzz_hostile.py $(HOSTILE_ARGS)

# mypy reads the types of the optional dependencies, so it wants the tests' installation too.
lint: $(VENV)/stamp-lint $(VENV)/stamp-test ## ruff and mypy, about a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file= --strict --follow-imports=silent tests/typed_program.py

format: $(VENV)/stamp-lint ## let ruff fix and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/stamp-bench ## compare speed with other libraries (BENCH_SUITE=cpu or reductions, BENCH_ARGS=..., WRITE=docs)
	$(BIN)/python -m benchmarks $(BENCH_SUITE) --output $(WRITE)/benchmarks/$(BENCH_SUITE) $(BENCH_ARGS)

ptx-report: $(VENV)/stamp-test ## count the instructions of the kernels for GPUs, without one, 4 to 6 minutes (WRITE=docs)
	$(BIN)/python scripts/ptx_report.py --output $(WRITE)/benchmarks/ptx.md $(PTX_REPORT_ARGS)

gpu-check: $(VENV)/stamp-test $(VENV)/stamp-bench $(VENV)/stamp-cuda ## test and measure on an NVIDIA GPU (GPU_FOLDER=..., GPU_ARGS="STEP OPTIONS")
	PYTHON=$(BIN)/python FOLDER=$(GPU_FOLDER) scripts/gpu_check.sh $(GPU_ARGS)

accuracy: $(VENV)/stamp-test ## measure the error of the elementary functions, some minutes (WRITE=docs)
	$(BIN)/python scripts/measure_ulp.py --output $(WRITE)/accuracy.md

formulas: $(VENV)/stamp-test ## write the generated pages: formulas, LazyTensor, names of KeOps, some seconds
	$(BIN)/python scripts/make_formulas.py
	$(BIN)/python scripts/make_lazy_tensor.py
	$(BIN)/python scripts/make_keops_names.py
	$(BIN)/python scripts/make_declared.py
	$(BIN)/python scripts/make_words.py

docs: $(VENV)/stamp-docs ## build the documentation's site in docs/_build/html, and check its links, 2 to 4 minutes
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs $(SITE)
	$(BIN)/python scripts/check_links.py $(SITE)

package: $(VENV)/stamp-package ## build the package in dist/, check it, and compute with it in an empty environment, a minute or two
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python scripts/check_package.py dist

clean: ## remove the environment and what programs wrote
	rm -rf $(VENV) $(PICTURES) docs/_build docs/gallery build dist redcomp.egg-info .mypy_cache .ruff_cache .pytest_cache

$(VENV)/stamp-venv:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/stamp-%: $(VENV)/stamp-venv pyproject.toml constraints.txt
	@echo "Installing redcomp[$*] into $(VENV): downloads up to $(call gigabytes,$*), unless pip has it."
	$(if $(call IS_LARGE,$*),@echo "$(OF_PYTORCH)")
	$(INSTALL) ".[$*]"
	touch $@

# Every target uses one virtual environment, .venv, which it makes and fills with what the target needs.
# An empty stamp file in .venv records each finished installation, so that a second run starts at once.
PYTHON ?= python3
BENCH_SUITE ?= cpu
BENCH_ARGS ?=
PTX_REPORT_ARGS ?=
GPU_FOLDER ?= gpu-check
GPU_ARGS ?=
PYTEST_ARGS ?=
FUZZ_ARGS ?=
HOSTILE_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL := $(PIP) install -c constraints.txt -e
PICTURES := examples/output
SITE := docs/_build/html

.PHONY: help demo test test-clients fuzz fuzz-structures fuzz-hostile lint format bench ptx-report gpu-check accuracy formulas docs clean

help:
	@echo "make demo      run both examples and draw their results"
	@echo "make test      run the tests (PYTEST_ARGS=--all: every variant of them)"
	@echo "make test-clients  run the tests of packages that call KeOps, which it installs"
	@echo "make fuzz      compare 20,000 random cases with a dense reference (FUZZ_ARGS=...)"
	@echo "make fuzz-structures  the same for 100,000 of dimensions, lists and sizes"
	@echo "make fuzz-hostile  hand over 100,000 hostile formulas, options and arguments (HOSTILE_ARGS=...)"
	@echo "make lint      ruff and mypy"
	@echo "make format    let ruff fix and format"
	@echo "make bench     compare speed with other libraries (BENCH_SUITE=cpu or reductions, BENCH_ARGS=...)"
	@echo "make ptx-report  count the instructions of the kernels for GPUs, without one"
	@echo "make gpu-check  test and measure on an NVIDIA GPU (GPU_FOLDER=..., GPU_ARGS=\"STEP OPTIONS\")"
	@echo "make accuracy  measure the error of the elementary functions"
	@echo "make formulas  write the generated pages: formulas, LazyTensor, names of KeOps"
	@echo "make docs      build the documentation's site in docs/_build/html, and check its links"
	@echo "make clean     remove the environment and what programs wrote"

demo: $(VENV)/stamp-examples
	$(BIN)/python examples/sum_reduction_numpy.py $(PICTURES)/sum_reduction_numpy.png
	$(BIN)/python examples/sum_reduction_torch.py $(PICTURES)/sum_reduction_torch.png
	@echo "Pictures:"
	@ls -1 $(CURDIR)/$(PICTURES)/*.png

test: $(VENV)/stamp-test
	$(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

test-clients: $(VENV)/stamp-clients
	$(BIN)/python -m pytest tests/clients $(PYTEST_ARGS)

fuzz: $(VENV)/stamp-test
	$(BIN)/python scripts/fuzz.py $(FUZZ_ARGS)

fuzz-structures: $(VENV)/stamp-test
	$(BIN)/python scripts/fuzz.py --structures --cases 100000 $(FUZZ_ARGS)

fuzz-hostile: $(VENV)/stamp-test
	$(BIN)/python scripts/fuzz_hostile.py $(HOSTILE_ARGS)

# mypy reads the types of the optional dependencies, so it wants the tests' installation too.
lint: $(VENV)/stamp-lint $(VENV)/stamp-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file= --strict --follow-imports=silent tests/typed_program.py

format: $(VENV)/stamp-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/stamp-bench
	$(BIN)/python -m benchmarks $(BENCH_SUITE) $(BENCH_ARGS)

ptx-report: $(VENV)/stamp-test
	$(BIN)/python scripts/ptx_report.py --output docs/benchmarks/ptx.md $(PTX_REPORT_ARGS)

gpu-check: $(VENV)/stamp-test $(VENV)/stamp-bench $(VENV)/stamp-cuda
	PYTHON=$(BIN)/python FOLDER=$(GPU_FOLDER) scripts/gpu_check.sh $(GPU_ARGS)

accuracy: $(VENV)/stamp-test
	$(BIN)/python scripts/measure_ulp.py

formulas: $(VENV)/stamp-test
	$(BIN)/python scripts/make_formulas.py
	$(BIN)/python scripts/make_lazy_tensor.py
	$(BIN)/python scripts/make_keops_names.py
	$(BIN)/python scripts/make_declared.py

docs: $(VENV)/stamp-docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs $(SITE)
	$(BIN)/python scripts/check_links.py $(SITE)

clean:
	rm -rf $(VENV) $(PICTURES) docs/_build docs/gallery build dist redcomp.egg-info .mypy_cache .ruff_cache .pytest_cache

$(VENV)/stamp-venv:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/stamp-%: $(VENV)/stamp-venv pyproject.toml constraints.txt
	$(INSTALL) ".[$*]"
	touch $@

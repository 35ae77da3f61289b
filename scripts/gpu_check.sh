#!/usr/bin/env bash
# Everything that wants an NVIDIA GPU, in one go: the tests marked gpu, NVIDIA's checkers of memory
# and of races on every case of the benchmarks at a small size, and the benchmarks with their targets.
#
#     scripts/gpu_check.sh [FOLDER] [OPTIONS OF python -m benchmarks gpu]
#
# Writes all that is said into FOLDER (by default gpu-check).  PYTHON is the interpreter to use.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
folder=${1:-gpu-check}
shift || true
mkdir -p "$folder"
export PYTHONUNBUFFERED=1

status=0
step() {
    local name=$1
    shift
    echo "== $name: $*"
    "$@" 2>&1 | tee "$folder/$name.log" || { status=1; echo "== $name: failed"; }
}

nvidia-smi >"$folder/nvidia-smi.log" 2>&1 || true
step tests "$python" -m pytest -m gpu -rs -p no:cacheprovider

if command -v compute-sanitizer >/dev/null; then
    # PyTorch's pool of memory would hide what lies beyond an allocation.
    export PYTORCH_NO_CUDA_MEMORY_CACHING=1
    for tool in memcheck racecheck; do
        step "$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 \
            "$python" -m benchmarks gpu --rehearse
    done
    unset PYTORCH_NO_CUDA_MEMORY_CACHING
else
    echo "== compute-sanitizer is not installed: memory and races are not checked"
fi

step benchmarks "$python" -m benchmarks gpu --check --output "$folder/gpu" "$@"
exit "$status"

#!/usr/bin/env bash
# Everything that wants an NVIDIA GPU, the shortest and most telling first:
#
#     tests       tests/test_gpu.py
#     rehearsal   every case of the benchmarks at a small size, compared with a reference
#     benchmarks  the benchmarks; without OPTIONS, the step fails where a target is missed
#     schedules   times of many schedules, to which scripts/fit_schedules.py fits the model of costs
#     memcheck    the rehearsal under NVIDIA's checker of memory
#     racecheck   and under that of races
#     more-tests  all other tests marked gpu, on eight processes
#
#     scripts/gpu_check.sh [STEP [OPTIONS]]
#
# Without a STEP all are run; OPTIONS are those of pytest or of `python -m benchmarks gpu`, and can
# cut a step into parts (`memcheck --cases gradients`, `more-tests tests/test_gpu_formulas.py`).
# What a step says is added to FOLDER/STEP.log (FOLDER: gpu-check).  PYTHON is the interpreter.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

STEPS=(tests rehearsal benchmarks schedules memcheck racecheck more-tests)
python=${PYTHON:-python3}
folder=${FOLDER:-gpu-check}
export PYTHONUNBUFFERED=1

# Other versions of libraries than the ones that the tests are developed with have warnings of their
# own, and so has pytest-benchmark beside pytest-xdist: none of them may fail a test here.
pytest=("$python" -m pytest -m gpu -rs -W default -p no:cacheprovider -p no:benchmark)
benchmarks=("$python" -m benchmarks gpu)

# Failing API calls are not reported: cuda-bindings asks older drivers for functions that they lack,
# and each such question would count as an error.  What redcomp asks for in vain, it raises itself.
# PyTorch's pool of memory would hide what lies beyond an allocation.
sanitized() {
    local tool=$1
    shift
    if ! command -v compute-sanitizer >/dev/null; then
        echo "compute-sanitizer is not installed: there is no $tool"
        return
    fi
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" --error-exitcode 1 \
        --report-api-errors no "${benchmarks[@]}" --rehearse "$@"
}

run() {
    local step=$1
    shift
    case $step in
        tests) "${pytest[@]}" tests/test_gpu.py "$@" ;;
        rehearsal) "${benchmarks[@]}" --rehearse "$@" ;;
        # With options they may be a part of the benchmarks, which cannot meet all targets.
        benchmarks) "${benchmarks[@]}" --output "$folder/gpu" "${@:---check}" ;;
        schedules) "$python" -m benchmarks gpu-schedules --output "$folder/gpu-schedules.json" "$@" ;;
        memcheck | racecheck) sanitized "$step" "$@" ;;
        more-tests) "${pytest[@]}" -n 8 --ignore tests/test_gpu.py "$@" ;;
    esac
}

if [[ $# -gt 0 ]]; then
    if [[ " ${STEPS[*]} " != *" $1 "* ]]; then
        echo "no step $1; the steps are ${STEPS[*]}" >&2
        exit 2
    fi
    STEPS=("$1")
    shift
fi

mkdir -p "$folder"
nvidia-smi >"$folder/nvidia-smi.log" 2>&1 || true
status=0
for step in "${STEPS[@]}"; do
    echo "== $step $*" | tee -a "$folder/$step.log"
    run "$step" "$@" 2>&1 | tee -a "$folder/$step.log" || { status=1; echo "== $step: failed"; }
done
exit "$status"

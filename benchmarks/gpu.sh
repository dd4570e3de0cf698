#!/bin/sh
# The tests and benchmarks that need a GPU, each part with a limit of its own: one that fails or
# takes too long does not stop the others. Some eight minutes, into ${OUT:-runs/gpu}.
#
#     PYTHON=.venv/bin/python sh benchmarks/gpu.sh
cd "$(dirname "$0")/.." || exit 1
out=${OUT:-runs/gpu}
python=${PYTHON:-python3}
mkdir -p "$out"
export PYTHONUNBUFFERED=1

timeout 130 "$python" -m pytest -p xdist -n 8 -W default -q -ra --tb=short --durations=10 -m gpu \
    tests/training/test_gpu.py tests/testing/test_gpu_conformance.py >"$out/tests.txt" 2>&1
tail -n 60 "$out/tests.txt"

rm -f "$out/gpu.md"
for part in "machine 30" "steps 140" "sizes 140" "trials 110" "decoding 40" "repeats 30"; do
    set -- $part
    echo "== $1"
    timeout "$2" "$python" benchmarks/gpu.py "$1" --out "$out" $GPU_OPTIONS 2>"$out/stderr" ||
        { echo "$1: exit code $?"; tail -n 15 "$out/stderr"; } | tee -a "$out/gpu.md"
done
echo "== memory"
timeout 90 "$python" benchmarks/memory.py --device cuda --steps 3 >"$out/memory.txt" 2>&1
cat "$out/memory.txt"
rm -f "$out/stderr"

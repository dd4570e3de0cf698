#!/bin/sh
# The tests and benchmarks that need a GPU, each part with a limit of its own: one that fails or
# takes too long does not stop the others. Some eight minutes, and never more than ${LIMIT:-570} s,
# into ${OUT:-runs/gpu}, where each part writes what it has while it goes.
#
#     PYTHON=.venv/bin/python sh benchmarks/gpu.sh
#
# To try it without a GPU: GPU_OPTIONS="--device cpu --small --rounds 1" PARTS="machine decoding".
cd "$(dirname "$0")/.." || exit 1
out=${OUT:-runs/gpu}
python=${PYTHON:-python3}
mkdir -p "$out"
export PYTHONUNBUFFERED=1
end=$(($(date +%s) + ${LIMIT:-570}))

# limited SECONDS COMMAND...: no longer than that, nor than what is left of all.
limited() {
    left=$((end - $(date +%s)))
    [ "$left" -gt "$1" ] && left=$1
    shift
    [ "$left" -gt 0 ] || return 124
    timeout "$left" "$@"
}

limited 130 "$python" -m pytest -p xdist -n 8 -W default -q -ra --tb=short --durations=10 -m gpu \
    tests/training/test_gpu.py tests/testing/test_gpu_conformance.py >"$out/tests.txt" 2>&1
tail -n 60 "$out/tests.txt"

rm -f "$out/gpu.md"
for part in ${PARTS:-machine steps sizes trials decoding repeats}; do
    case $part in
    steps | sizes) most=140 ;;
    trials) most=110 ;;
    *) most=40 ;;
    esac
    echo "== $part"
    if limited "$most" "$python" benchmarks/gpu.py "$part" --out "$out" $GPU_OPTIONS 2>"$out/stderr"; then
        grep "not ready" "$out/stderr" | tee -a "$out/gpu.md"
    else
        { echo "$part: exit code $?"; tail -n 15 "$out/stderr"; } | tee -a "$out/gpu.md"
    fi
done
echo "== memory"
limited 90 "$python" benchmarks/memory.py --device cuda --steps 3 >"$out/memory.txt" 2>&1
cat "$out/memory.txt"
rm -f "$out/stderr"

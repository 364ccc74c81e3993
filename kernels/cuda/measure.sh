#!/usr/bin/env bash
# Holds the kernels to the reference and measures them on a machine with a GPU, which needs neither Go nor, for most of
# it, the CUDA toolkit. Where Go is, put the programs into a folder and copy it there together with this tree:
#
#	CGO_ENABLED=0 go test -c -ldflags="-s -w" -o bin/ops.test ./kernels/cuda
#	CGO_ENABLED=0 go test -c -ldflags="-s -w" -o bin/runtime.test ./runtime
#	CGO_ENABLED=0 go build -ldflags="-s -w" -o bin/tritter-run ./cmd/tritter-run
#
# Then: measure.sh BIN OUT. OUT receives the logs, what nvcc makes of the sources, and the resources of each kernel; the
# table of what passed is printed last. It never stops at a failure.
set -uo pipefail
bin=$(realpath "$1") out=$(realpath "$2")
here=$(realpath "$(dirname "$0")")
summary=$out/summary.txt
: >"$summary"
export TRITTER_REQUIRE=cuda

run() { # name, seconds, command...
	local name=$1 limit=$2 begun=$SECONDS
	shift 2
	if timeout "$limit" "$@" >"$out/$name.log" 2>&1; then
		printf '%-12s passed  %4d s\n' "$name" $((SECONDS - begun)) >>"$summary"
	else
		printf '%-12s FAILED  %4d s  %s\n' "$name" $((SECONDS - begun)) "$(grep -m1 -aE 'FAIL|rror|panic' "$out/$name.log" | cut -c1-150)" >>"$summary"
	fi
}

nvidia-smi >"$out/machine.log" 2>&1
run devices 60 "$bin/tritter-run" devices
(cd "$here" && run ops 120 "$bin/ops.test" -test.run 'TestOps/cuda' -test.v)
(cd "$here/../../runtime" && run engine 180 "$bin/runtime.test" -test.run 'TestCUDA.*/cuda' -test.v)
run demo-cpu 60 "$bin/tritter-run" --device cpu --temperature 0 --max-new-tokens 60 'func (b *Buffer) Write('
run demo-cuda 60 "$bin/tritter-run" --device cuda --temperature 0 --max-new-tokens 60 'func (b *Buffer) Write('
cmp -s "$out/demo-cpu.log" "$out/demo-cuda.log" && echo 'demo         the same text on CPU and GPU' >>"$summary"

if command -v nvcc >/dev/null; then
	mkdir -p "$out/nvcc"
	work=$(mktemp -d)
	cp -r "$here/src" "$work/src"
	run generate 180 bash "$work/src/generate.sh"
	cp "$work"/ptx/* "$out/nvcc/" 2>/dev/null
	for ptx in "$here"/ptx/*.ptx "$work"/ptx/*.ptx; do
		[ -e "$ptx" ] && { echo "== $ptx" && ptxas -v -arch=sm_90 -o /dev/null "$ptx"; }
	done >"$out/resources.log" 2>&1
fi
if command -v compute-sanitizer >/dev/null; then
	for tool in memcheck racecheck; do
		(cd "$here/../../runtime" && run "$tool" 150 compute-sanitizer --tool "$tool" --error-exitcode 9 "$bin/runtime.test" -test.run 'TestCUDADecode/cuda/bitnet' -test.v)
	done
fi
for head in bf16 int8; do
	run "bench-$head" 240 "$bin/tritter-run" bench --device cuda --shape 2B-4T --head "$head" --tests pp512,pp2048,tg256 --at 128,2048
	cat "$out/bench-$head.log"
done
cat "$summary"

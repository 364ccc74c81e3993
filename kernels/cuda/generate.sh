#!/bin/sh
# Compiles src/*.cu to ptx/*.ptx and writes ptx/manifest: compiler, flags, and the hash of every source and result.
# It takes nvcc where there is one, else clang, whose NVPTX target needs no toolkit. Kernels that gain from sm_90 come
# in a second form. The text says an older version of PTX than the compiler knows, so that older drivers take it.
set -eu
cd "$(dirname "$0")"
clang=${CLANG:-clang-16}
rm -f ptx/*.ptx
compile() { # source, result, architecture, version of PTX, defines
	if command -v nvcc >/dev/null; then
		nvcc -ptx -O3 -fmad=false -std=c++17 -arch="compute_${3#sm_}" $5 -o "$2" "$1"
	else
		"$clang" -x cuda --cuda-device-only -nocudainc -nocudalib --cuda-gpu-arch="$3" -O3 -std=c++17 -ffp-contract=off -fno-exceptions $5 -S -o "$2" "$1"
	fi
	sed -i "s/^\.version .*/.version $4/; /^\/\/ Cuda compilation tools/d; /^\/\/ Based on/d" "$2"
}
for source in src/*.cu; do
	name=$(basename "$source" .cu)
	compile "$source" "ptx/$name.ptx" sm_80 7.4 ""
	if grep -q await_grid "$source"; then
		compile "$source" "ptx/$name.sm_90.ptx" sm_90 7.8 "-DTRITTER_DEPENDENT_LAUNCH"
	fi
done
{
	if command -v nvcc >/dev/null; then
		echo "compiler $(nvcc --version | sed -n 's/.*release \([0-9.]*\).*/nvcc \1/p') -O3 -fmad=false"
	else
		echo "compiler $("$clang" --version | sed -n 's/.*\(clang version [0-9.]*\).*/\1/p') -O3 -ffp-contract=off"
	fi
	sha256sum src/*.cu src/*.cuh ptx/*.ptx
} >ptx/manifest

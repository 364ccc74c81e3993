//go:build amd64 && !purego

package cpu

import (
	"encoding/binary"
	"math"
	"sync"

	"golang.org/x/sys/cpu"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/ref"
)

// native lists what this processor has.
func native() (all []kernels.Ops) {
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA && cpu.X86.HasF16C {
		all = append(all, avx2{})
		if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512VNNI {
			all = append(all, vnni{})
			if cpu.X86.HasAMXTile && cpu.X86.HasAMXInt8 && permitAMX() {
				all = append(all, amx{})
			}
		}
	}
	return all
}

// avx2 is the implementation for AVX2 and FMA. Its twin is ref, which also finishes
// what is too short for a register.
type avx2 struct{ ref.Ops }

func (avx2) Name() string { return "avx2" }

// scratch is memory that a call needs for itself.
type scratch struct {
	// These come first, where they are aligned to the lines of a cache.
	panels     [2][panelTiles * panelRows * kernels.TileCols]byte
	floatPanel [kernels.TileRows * kernels.BlockLen]float32
	lanes      [floatTokens * kernels.TileRows * kernels.Lanes]float32
	config     tileConfigs

	scales []float32
	floats []float32
	excess []int32
	factor []float32 // of each token
	tails  []tail
	sums   []int32
	acc    []float32
	group  []float32
	out    [streamRows]float32
}

// tail is the end of a row, 128 bytes, and of three tokens, 32 f32 each: kernels
// take as many elements from it as fill their lanes.
type tail = [128 + 3*4*kernels.Lanes]byte

// putTail copies x into token k of a tail, and makes the elements that it does not
// have absent ones: absent is 0 or -0.
func putTail(t *tail, k int, x []float32, absent float32) {
	b := t[128+128*k:][:128]
	for i := range kernels.Lanes {
		v := absent
		if i < len(x) {
			v = x[i]
		}
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(v))
	}
}

// negativeZero is where a sum begins to which kernels add: -0 + b = b for every b.
var negativeZero = float32(math.Copysign(0, -1))

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// grow returns a slice of n elements, keeping the memory of s where it suffices.
func grow[T any](s *[]T, n int) []T {
	if cap(*s) < n {
		*s = make([]T, n)
	}
	*s = (*s)[:n]
	return *s
}

// share is the size of the next of the equal parts, at most most, that n makes.
func share(n, most int) int {
	parts := (n + most - 1) / most
	return (n + parts - 1) / parts
}

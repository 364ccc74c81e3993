package format

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// benchFile has 8 tensors of 8 MiB of codes.
func benchFile(b *testing.B, enc Encoding) ([]byte, []source) {
	rng := rand.New(rand.NewPCG(9, 9))
	spec := TensorSpec{"", enc, AbsMean, ScaleTensor, []int{4096, 8192}, 0}
	one := makeSource(b, rng, spec)
	var list []source
	for i := range 8 {
		one.spec.Name = fmt.Sprintf("layers.%d.q.weight", i)
		list = append(list, one)
	}
	return writeFile(b, filepath.Join(b.TempDir(), "bench.trit"), list, testSections()), list
}

// BenchmarkCheck verifies a whole file in memory; "hash" only hashes it, which
// is the limit.
func BenchmarkCheck(b *testing.B) {
	for _, enc := range []Encoding{Trit2, Trit3} {
		data, _ := benchFile(b, enc)
		f, err := OpenBytes(data)
		require.NoError(b, err)
		for _, workers := range []int{1, runtime.GOMAXPROCS(0)} {
			b.Run(fmt.Sprintf("%v/%d", enc, workers), func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				for b.Loop() {
					require.NoError(b, f.Check(context.Background(), workers, func(p Problem) { b.Fatal(p) }, nil))
				}
			})
		}
		b.Run(fmt.Sprintf("%v/reader", enc), func(b *testing.B) {
			f, err := OpenReaderAt(bytes.NewReader(data), int64(len(data)))
			require.NoError(b, err)
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				require.NoError(b, f.Check(context.Background(), 1, func(p Problem) { b.Fatal(p) }, nil))
			}
		})
		b.Run(fmt.Sprintf("%v/hash", enc), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				sha256.Sum256(data)
			}
		})
	}
}

// BenchmarkWrite writes a whole file from one goroutine, sync included.
func BenchmarkWrite(b *testing.B) {
	data, sources := benchFile(b, Trit2)
	path := filepath.Join(b.TempDir(), "w.trit")
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		write(b, path, sources, testSections())
	}
}

// BenchmarkReadHeader reads the header of a model of 210 tensors.
func BenchmarkReadHeader(b *testing.B) {
	var list []source
	for i := range 210 {
		list = append(list, source{spec: TensorSpec{fmt.Sprintf("layers.%d.weight", i), F32, RuleNone, ScaleNone, []int{1}, 0}, data: make([]byte, 4)})
	}
	data := writeFile(b, filepath.Join(b.TempDir(), "h.trit"), list, testSections())
	r := bytes.NewReader(data)
	b.ReportAllocs()
	for b.Loop() {
		_, err := ReadHeader(r, int64(len(data)))
		require.NoError(b, err)
	}
}

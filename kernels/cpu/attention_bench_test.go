package cpu_test

import (
	"fmt"
	"testing"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cpu"
)

// BenchmarkAttention is one kv head of the 2B shape (20 heads, 5 kv heads of 128):
// a block of 16 rows at the end of a prefill of 512, and a row at position 2047.
func BenchmarkAttention(b *testing.B) {
	const dim, heads, kvHeads = 128, 4, 5
	for _, shape := range []struct {
		name      string
		rows, pos int
	}{{"prefill", 16, 496}, {"decode", 1, 2047}} {
		for _, f := range kernels.KVFormats {
			for _, ops := range cpu.Implementations()[1:] {
				b.Run(fmt.Sprintf("%s/%v/%s", shape.name, f, ops.Name()), func(b *testing.B) {
					a := &kernels.Queries{Q: numbers(shape.rows * heads * dim), Stride: heads * dim, Rows: shape.rows, Heads: heads, Pos: shape.pos}
					kv := numbers(kvHeads * dim)
					for c := range a.Chunks() {
						a.Pages = append(a.Pages, kernels.NewPage(f, kvHeads, dim))
						for slot := range kernels.PageLen {
							if err := ops.StoreKV(a.Pages[c], slot, kv, kv); err != nil {
								b.Fatal(err)
							}
						}
					}
					size := kernels.AttentionPart(dim)
					parts, out := make([]float32, shape.rows*heads*size), make([]float32, dim)
					head := 0
					b.ReportAllocs()
					for b.Loop() {
						a.KVHead = head % kvHeads // each head's keys and values are new to the first cache
						head++
						ops.Attention(parts, a, 0, a.Chunks())
						for i := range shape.rows * heads {
							ops.MergeAttention(out, parts[i*size:], 0, 1)
						}
					}
					macs := 2 * heads * dim * shape.rows * (2*shape.pos + shape.rows + 1) / 2
					b.ReportMetric(float64(macs)*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "GMAC/s")
				})
			}
		}
	}
}

func BenchmarkStoreKV(b *testing.B) {
	kv := numbers(5 * 128)
	for _, f := range kernels.KVFormats {
		b.Run(f.String(), func(b *testing.B) {
			p := kernels.NewPage(f, 5, 128)
			for b.Loop() {
				if err := cpu.New().StoreKV(p, 7, kv, kv); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func numbers(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(i*7919%1000)/500 - 1
	}
	return x
}

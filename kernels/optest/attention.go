package optest

import (
	"testing"

	"github.com/tritter-ai/tritter/kernels"
)

func (c *comparison) attention(t *testing.T) {
	seed := uint64(0)
	for _, n := range []int{1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200} {
		for _, d := range []int{1, 2, 8, 64, 96, 128} {
			seed++
			c.oneAttention(t, seed, n, int(seed%3)+1, d, "random")
		}
	}
	for _, p := range patterns {
		for _, n := range []int{1, 65, 130} {
			seed++
			c.oneAttention(t, seed, n, 2, 33, p)
		}
	}
	// Scores that fall and rise from chunk to chunk, so that every branch of the merge decides, and some so far
	// below the maximum that their weight is zero.
	for _, p := range []string{"rising", "falling", "equal"} {
		c.oneAttention(t, seed, 300, 1, 16, p)
	}
}

func (c *comparison) oneAttention(t *testing.T, seed uint64, n, kvHeads, d int, pattern string) {
	a := new(arena)
	defer a.free()
	r := random(seed)
	var pages []*kernels.Page
	k, v, q := make([]float32, kvHeads*d), make([]float32, kvHeads*d), floats(a, d)
	for p := range n {
		if p%kernels.PageLen == 0 {
			size := kvHeads * d * kernels.PageLen
			page := &kernels.Page{K: output(a, size), V: output(a, size)}
			pages = append(pages, page)
		}
		switch pattern {
		case "rising", "falling", "equal":
			fill(k, "ones", r)
			fill(v, "random", r)
			slope := map[string]float32{"rising": 1, "falling": -1}[pattern]
			for i := range k {
				k[i] *= slope * float32(p) / 8
			}
		default:
			fill(k, pattern, r)
			fill(v, pattern, r)
		}
		pages[p/kernels.PageLen].Put(p%kernels.PageLen, k, v, kvHeads, d)
	}
	switch pattern {
	case "rising", "falling", "equal":
		fill(q, "ones", r)
	default:
		fill(q, pattern, r)
	}
	scratch := floats(a, kernels.AttentionScratch(d))
	for h := range kvHeads {
		fill(scratch, "hostile", r)
		got, want := output(a, d), output(a, d)
		c.impl.Attention(got, q, pages, h, kvHeads, d, n, scratch)
		c.ref.Attention(want, q, pages, h, kvHeads, d, n, scratch)
		same(t, label("Attention, head %d of %d, %d positions of %d, %s", h, kvHeads, n, d, pattern), got, want)
	}
}

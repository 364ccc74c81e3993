package runtime

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/ref"
)

// straightforward is a model computed position by position with everything kept:
// rotated keys and values of every position in every layer. Attention is
// spec/numerics.md, section 12, for format f32, written once more.
type straightforward struct {
	m            *Model
	window, n    int
	keys, values [][][]float32 // [layer][position]
	cos, sin     []float32
}

func (s *straightforward) multiply(w projection, q *kernels.Acts) []float32 {
	y := make([]float32, w.Rows)
	ref.New().TernaryInt8(y, w.Rows, w.Ternary, q, 0, w.Rows)
	return y
}

func (s *straightforward) linear(t *testing.T, x []float32, norm *kernels.Norm, out ...projection) (all [][]float32) {
	var q kernels.Acts
	q.Resize(1, len(x))
	var err error
	q.Max[0], err = ref.New().NormQuant(q.Codes, x, norm)
	require.NoError(t, err)
	for _, w := range out {
		all = append(all, s.multiply(w, &q))
	}
	return all
}

func (s *straightforward) rotated(x []float32, position int) []float32 {
	y := append([]float32(nil), x...)
	s.m.rope.At(position, s.cos, s.sin)
	ref.New().Rope(y, s.m.Config.HeadDim, s.cos, s.sin)
	return y
}

// step computes one position; the logits are wanted only sometimes.
func (s *straightforward) step(t *testing.T, id int, wanted bool) []float32 {
	c, ops := &s.m.Config, ref.New()
	x := make([]float32, c.HiddenSize)
	ops.EmbedRow(x, &s.m.embed, id)
	for i := range s.m.layers {
		l := &s.m.layers[i]
		p := s.linear(t, x, l.attnNorm, l.q, l.k, l.v)
		at := len(s.keys[i])
		s.keys[i], s.values[i] = append(s.keys[i], s.rotated(p[1], at)), append(s.values[i], p[2])
		q, sinkQ := s.rotated(p[0], at), s.rotated(p[0], min(at, s.n+s.window-1))
		var att []float32
		for h := range c.NumHeads {
			lo := h * c.HeadDim
			att = append(att, s.attention(i, h/(c.NumHeads/c.NumKVHeads), q[lo:lo+c.HeadDim], sinkQ[lo:lo+c.HeadDim])...)
		}
		ops.Add(x, s.linear(t, att, l.attnSubNorm, l.o)[0])
		p = s.linear(t, x, l.mlpNorm, l.gate, l.up)
		ops.Gate(p[0], p[0], p[1], kernels.ReLU2)
		ops.Add(x, s.linear(t, p[0], l.mlpSubNorm, l.down)[0])
	}
	if !wanted {
		return nil
	}
	require.NoError(t, ops.Norm(x, x, s.m.norm))
	logits := make([]float32, c.VocabSize)
	ops.Dense(logits, c.VocabSize, s.m.head.Dense, x, 1, c.HiddenSize, 0, c.VocabSize)
	return logits
}

func (s *straightforward) attention(layer, kvHead int, q, sinkQ []float32) []float32 {
	d := len(q)
	z := float32(1 / math.Sqrt(float64(d)))
	now := len(s.keys[layer]) - 1
	var m, l float32
	var o []float32
	for c := 0; c <= now/64; c++ {
		var at []int
		for j := 64 * c; j < min(64*c+64, now+1); j++ {
			if j < s.n || j > now-s.window {
				at = append(at, j)
			}
		}
		if len(at) == 0 {
			c = max(c, (now-s.window)/64-1) // nothing before the window: on to its chunk
			continue
		}
		scores := make([]float32, len(at))
		for i, j := range at {
			with := q
			if j < s.n {
				with = sinkQ
			}
			for e, k := range s.keys[layer][j][kvHead*d:][:d] {
				scores[i] = ref.FMA32(with[e], k, scores[i])
			}
			scores[i] *= z
		}
		mc := scores[0]
		for _, v := range scores {
			mc = max(mc, v)
		}
		weights := make([]float32, 64) // zeros add nothing
		oc := make([]float32, d)
		for i, j := range at {
			weights[j%64] = ref.Exp32(scores[i] - mc)
			for e, v := range s.values[layer][j][kvHead*d:][:d] {
				oc[e] = ref.FMA32(weights[j%64], v, oc[e])
			}
		}
		lc := ref.Sum(weights)
		if o == nil {
			m, l, o = mc, lc, oc
			continue
		}
		top := max(m, mc)
		a, b := ref.Exp32(m-top), ref.Exp32(mc-top)
		m, l = top, ref.FMA32(lc, b, float32(l*a))
		for e := range o {
			o[e] = ref.FMA32(oc[e], b, float32(o[e]*a))
		}
	}
	inv := 1 / l
	for e := range o {
		o[e] *= inv
	}
	return o
}

func smallModel(t *testing.T) *Model {
	t.Helper()
	shape := synth.Shape{Class: "BitNetForCausalLM", Hidden: 16, Layers: 2, Heads: 2, KVHeads: 1, HeadDim: 8, Intermediate: 24, Vocab: 40, Context: 128, Tied: true}
	path := filepath.Join(t.TempDir(), "small.trit")
	require.NoError(t, synth.WriteModel(path, shape.Config(), format.BF16))
	f, err := format.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	m, err := LoadModel(f)
	require.NoError(t, err)
	return m
}

func token(i int) int { return (i*i + 3*i + i/7) % 40 }

// TestWindowRunsOn: 20,000 positions under a window, far past the model's 128,
// give the logits of a computation that keeps everything, in the memory that Plan
// foresees.
func TestWindowRunsOn(t *testing.T) {
	const total, window, sinks = 20000, 90, 4
	m := smallModel(t)
	e, err := NewCPU(m, Options{Window: window, Sinks: sinks, Threads: 2})
	require.NoError(t, err)
	defer e.Close()
	c := &e.(*cpuEngine).cache
	s := &straightforward{m: m, window: window, n: sinks, cos: make([]float32, 4), sin: make([]float32, 4),
		keys: make([][][]float32, 2), values: make([][][]float32, 2)}
	seq := e.NewSequence().(*sequence)
	steps := []int{1, 63, 200, 2, 130, 1, 1, 517}
	for n, call := 0, 0; n < total; call++ {
		step := min(steps[call%len(steps)], total-n)
		tokens := make([]int, step)
		for i := range tokens {
			tokens[i] = token(n + i)
		}
		r, err := e.Forward(context.Background(), []Span{{Seq: seq, Tokens: tokens, Logits: PositionLast}})
		require.NoError(t, err)
		var want []float32
		for i, id := range tokens {
			want = s.step(t, id, i == step-1)
		}
		n += step
		require.Equal(t, want, r[0].Logits, "position %d", n-1)
		require.Equal(t, n, seq.Len())
		require.LessOrEqual(t, seq.Len()-seq.Oldest(), max(2*kernels.PageLen, step+kernels.PageLen))
		require.LessOrEqual(t, len(seq.blocks), 1+(window+step)/kernels.PageLen+2)
	}
	require.LessOrEqual(t, c.made, c.greatest(e.Plan().Context))
	require.Less(t, c.made, 10)
	require.Len(t, c.free, c.made-len(seq.blocks))
	seq.Close()
	require.Len(t, c.free, c.made, "every block comes back")
}

// A call that fails after the window has passed blocks of before leaves its sequence,
// and forks of it, as they were.
func TestWindowRollback(t *testing.T) {
	m := smallModel(t)
	e, err := NewCPU(m, Options{Window: 70, Sinks: 66, Context: 5000})
	require.ErrorContains(t, err, "a window of 70 and 66 sinks are 136 positions, want at most 128")
	require.Nil(t, e)
	for _, o := range []Options{{Window: 60, Sinks: 66}, {Window: 100}} {
		e, err := NewCPU(m, o)
		require.NoError(t, err)
		defer e.Close()
		for _, before := range []int{1, 64, 65, 300, 500} {
			seq := e.NewSequence().(*sequence)
			span := func(n, from int) Span {
				s := Span{Seq: seq, Logits: PositionLast}
				for i := range n {
					s.Tokens = append(s.Tokens, token(from+i))
				}
				return s
			}
			_, err = e.Forward(context.Background(), []Span{span(before, 0)})
			require.NoError(t, err)
			fork := seq.Fork()
			bad := make([]float32, 900*16)
			for i := range bad {
				bad[i] = float32(i%17) - 8
			}
			bad[899*16] = float32(math.NaN())
			oldest, blocks := seq.Oldest(), len(seq.blocks)
			_, err = e.Forward(context.Background(), []Span{{Seq: seq, Embeddings: bad}})
			require.ErrorContains(t, err, "layer 0")
			require.Equal(t, []int{before, oldest, blocks}, []int{seq.Len(), seq.Oldest(), len(seq.blocks)})
			got, err := e.Forward(context.Background(), []Span{span(100, before)})
			require.NoError(t, err)
			forked := span(100, before)
			forked.Seq = fork
			again, err := e.Forward(context.Background(), []Span{forked})
			require.NoError(t, err)
			fresh := span(before+100, 0)
			fresh.Seq = e.NewSequence()
			want, err := e.Forward(context.Background(), []Span{fresh})
			require.NoError(t, err)
			require.Equal(t, want, got, "%+v, %d positions before", o, before)
			require.Equal(t, want, again, "%+v, %d positions before, fork", o, before)
			for _, s := range []Sequence{seq, fork, fresh.Seq} {
				s.Close()
			}
			c := &e.(*cpuEngine).cache
			require.Len(t, c.free, c.made)
		}
	}
}

package runtime_test

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/emulator"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cuda"
	"github.com/tritter-ai/tritter/kernels/cuda/driver"
	"github.com/tritter-ai/tritter/kernels/ref"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/runtime"
)

func gpu(t testing.TB, m *runtime.Model, opt runtime.Options) runtime.Engine {
	t.Helper()
	e, err := runtime.NewCUDA(m, opt)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// TestCUDALogits: the engine of the GPU gives the bits of the reference, however tokens are split into calls, batches
// and forks.
func TestCUDALogits(t *testing.T) {
	emulator.Run(t, func(t *testing.T) {
		for name := range shapes {
			t.Run(name, func(t *testing.T) { cudaSplitting(t, tiny(t, name), runtime.Options{}) })
		}
		for _, f := range kernels.KVFormats[1:] {
			t.Run(f.String(), func(t *testing.T) {
				cudaSplitting(t, tiny(t, "bitnet"), runtime.Options{KV: f})
				cudaSplitting(t, long(t, 64), runtime.Options{KV: f})
			})
		}
	})
}

func cudaSplitting(t *testing.T, m *runtime.Model, opt runtime.Options) {
	t.Helper()
	vocab, hidden := m.Config.VocabSize, m.Config.HiddenSize
	tokens := ids(100, vocab, 1)
	e := gpu(t, m, opt)
	opt.Kernels = ref.New()
	cpu := engine(t, m, opt)
	want := forward(t, cpu, runtime.Span{Seq: cpu.NewSequence(), Tokens: tokens, Logits: runtime.PositionAll, Hidden: runtime.PositionAll})[0]
	for _, step := range []int{100, 64} {
		s := e.NewSequence()
		for lo := 0; lo < len(tokens); lo += step {
			hi := min(lo+step, len(tokens))
			got := forward(t, e, runtime.Span{Seq: s, Tokens: tokens[lo:hi], Logits: runtime.PositionAll, Hidden: runtime.PositionAll})[0]
			require.Equal(t, want.Logits[lo*vocab:hi*vocab], got.Logits, "steps of %d, at %d", step, lo)
			require.Equal(t, want.Hidden[lo*hidden:hi*hidden], got.Hidden, "steps of %d, at %d", step, lo)
		}
		s.Close()
	}

	// One token at a time, from the middle of a page over its end.
	a := e.NewSequence()
	forward(t, e, runtime.Span{Seq: a, Tokens: tokens[:60]})
	for at := 60; at < 70; at++ {
		got := forward(t, e, runtime.Span{Seq: a, Tokens: tokens[at : at+1], Logits: runtime.PositionLast})[0].Logits
		require.Equal(t, want.Logits[at*vocab:(at+1)*vocab], got, "token %d", at)
	}

	// A batch beside others, forks that part, and truncation.
	b, c := e.NewSequence(), e.NewSequence()
	forward(t, e, runtime.Span{Seq: b, Tokens: ids(70, vocab, 2)})
	r := forward(t, e,
		runtime.Span{Seq: c, Tokens: ids(5, vocab, 3), Logits: runtime.PositionLast},
		runtime.Span{Seq: a, Tokens: tokens[70:100], Logits: runtime.PositionLast},
		runtime.Span{Seq: b, Tokens: ids(9, vocab, 4)})
	require.Equal(t, want.Logits[99*vocab:100*vocab], r[1].Logits)
	require.Len(t, r[0].Logits, vocab)
	require.Empty(t, r[2].Logits)
	for _, at := range []int{96, 64, 33} {
		a.Truncate(at)
		f := a.Fork()
		forward(t, e, runtime.Span{Seq: a, Tokens: ids(3, vocab, 5)})
		r = forward(t, e, runtime.Span{Seq: f, Tokens: tokens[at : at+4], Logits: runtime.PositionLast})
		require.Equal(t, want.Logits[(at+3)*vocab:(at+4)*vocab], r[0].Logits, "fork at %d", at)
		a.Close()
		a = f
	}
}

// TestCUDAFormats: with a cache in another format than f32 there are plans of its size, generation without the kernels for one
// token, batches, errors about what it cannot hold, and no --fast.
func TestCUDAFormats(t *testing.T) {
	s := aligned["bitnet"]
	f, err := format.Open(tinyFile(t, s.shape, s.storage, s.opt))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	emulator.Run(t, func(t *testing.T) {
		for _, kv := range kernels.KVFormats[1:] {
			t.Run(kv.String(), func(t *testing.T) {
				m, err := runtime.LoadModel(f)
				require.NoError(t, err)
				vocab := m.Config.VocabSize
				opt := runtime.Options{KV: kv, Fast: true}
				cpu, e := engine(t, m, opt), gpu(t, m, opt)
				require.False(t, runtime.CanDecode(e))
				require.Equal(t, cpu.Plan().PerToken, e.Plan().PerToken)
				require.Equal(t, kv.String(), e.Plan().KV)
				require.Equal(t, "fast: no effect, it is for a cache of f32; this one is of "+kv.String(), e.Plan().Note)
				_, err = runtime.BenchGPU(context.Background(), e, 5, 6)
				require.ErrorContains(t, err, "has no path for one token")

				requests := []runtime.Request{
					{Tokens: ids(250, vocab, 1), MaxNewTokens: 8, Sampling: greedy},
					{Tokens: ids(62, vocab, 2), MaxNewTokens: 6, Sampling: runtime.Sampling{Temperature: 1, TopP: 0.9, RepetitionPenalty: 1.1, Seed: 3}},
				}
				for _, n := range []int{1, 2} {
					want, reasons := generate(t, cpu, requests[:n]...)
					got, finish := generate(t, e, requests[:n]...)
					require.Equal(t, want, got)
					require.Equal(t, reasons, finish)
				}

				// Decode of several sequences at once, more chunks than are computed apart in one of the two.
				for _, n := range []int{3, 12} {
					step := func(e runtime.Engine) []runtime.Result {
						var prompts, steps []runtime.Span
						for i := range n {
							s := e.NewSequence()
							defer s.Close()
							prompts = append(prompts, runtime.Span{Seq: s, Tokens: ids(20*i+65, vocab, i)})
							steps = append(steps, runtime.Span{Seq: s, Tokens: []int{i}, Logits: runtime.PositionLast})
						}
						forward(t, e, prompts...)
						return forward(t, e, steps...)
					}
					require.Equal(t, step(cpu), step(e))
				}

				nan := make([]float32, m.Config.HiddenSize)
				nan[3] = float32(math.NaN())
				_, err = e.Forward(context.Background(), []runtime.Span{{Seq: e.NewSequence(), Embeddings: nan}})
				require.ErrorContains(t, err, "layer 0: NormQuant: a value is NaN", "which makes the keys wrong, too")
				if kv == kernels.KVInt8 { // which holds all finite numbers
					return
				}
				runtime.ScaleKeys(m, 1e7)
				cpu, e = engine(t, m, opt), gpu(t, m, opt)
				for i, e := range []runtime.Engine{cpu, e} {
					seq := e.NewSequence()
					_, got := e.Forward(context.Background(), []runtime.Span{{Seq: seq, Tokens: []int{7}}})
					var wrong *kernels.KVRangeError
					require.ErrorAs(t, got, &wrong)
					require.Zero(t, seq.Len())
					if i == 0 {
						err = got
					}
					require.EqualError(t, got, err.Error())
				}
				require.ErrorContains(t, err, "layer 1: key ")
			})
		}
	})
}

// long is a model whose heads are of a size that the kernels for long prompts take.
func long(t testing.TB, headDim int) *runtime.Model {
	t.Helper()
	s := synth.Shape{Class: "BitNetForCausalLM", Hidden: 128, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: headDim, Intermediate: 208, Vocab: 97, Context: 700, Tied: true}
	f, err := format.Open(tinyFile(t, s, synth.Online, convert.Options{}))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	m, err := runtime.LoadModel(f)
	require.NoError(t, err)
	return m
}

// TestCUDAPrompts: prompts of several tiles of attention give the bits of the reference wherever they are cut, and with
// Options.Fast something near to them.
func TestCUDAPrompts(t *testing.T) {
	emulator.Run(t, func(t *testing.T) {
		for _, headDim := range []int{64, 128} {
			m := long(t, headDim)
			vocab, n := m.Config.VocabSize, 600
			tokens := ids(n, vocab, 1)
			all := func(e runtime.Engine, cuts ...int) (logits []float32) {
				s := e.NewSequence()
				defer s.Close()
				at := 0
				for _, cut := range append(cuts, n) {
					logits = append(logits, forward(t, e, runtime.Span{Seq: s, Tokens: tokens[at:cut], Logits: runtime.PositionAll})[0].Logits...)
					at = cut
				}
				return logits
			}
			want := all(engine(t, m, runtime.Options{}))
			e := gpu(t, m, runtime.Options{})
			for _, cuts := range [][]int{nil, {37, 300}, {128, 257, 258}, {64, 480}} {
				require.Equal(t, want, all(e, cuts...), "heads of %d, cut at %d", headDim, cuts)
			}
			// Two sequences at once, whose tiles are not of one length.
			a, b := e.NewSequence(), e.NewSequence()
			got := forward(t, e, runtime.Span{Seq: a, Tokens: tokens[:150], Logits: runtime.PositionLast}, runtime.Span{Seq: b, Tokens: tokens[:301], Logits: runtime.PositionLast})
			require.Equal(t, want[149*vocab:150*vocab], got[0].Logits)
			require.Equal(t, want[300*vocab:301*vocab], got[1].Logits)

			fast := gpu(t, m, runtime.Options{Fast: true})
			require.Contains(t, fast.Plan().Note, "not the same")
			for _, kernels := range []string{"of the device", "of all devices"} {
				for _, cuts := range [][]int{nil, {37, 300}} {
					near := all(fast, cuts...)
					require.NotEqual(t, want, near)
					require.Greater(t, cosine(want, near), 0.999, "kernels %s: bfloat16 has 8 bits, and codes of int8 turn what it lacks into steps of 1/127", kernels)
				}
				require.NoError(t, runtime.Portable(fast))
			}
			require.NoError(t, runtime.Portable(e))
			require.Equal(t, want, all(e, 37, 300), "kernels of all devices")
			require.Equal(t, want[:20*vocab], all(fast, 20)[:20*vocab], "short prompts take the exact path")
		}
	})
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab += float64(a[i]) * float64(b[i])
		aa += float64(a[i]) * float64(a[i])
		bb += float64(b[i]) * float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}

// TestCUDAFixtures: the checkpoints of testdata, of every architecture, and the demo give the bits of the reference.
func TestCUDAFixtures(t *testing.T) {
	configs, err := filepath.Glob("../testdata/fixtures/*/config.json")
	require.NoError(t, err)
	require.NotEmpty(t, configs)
	models := map[string]*runtime.Model{}
	for _, config := range configs {
		dir := filepath.Dir(config)
		source := dir
		if filepath.Base(dir) == "tritter" { // the same model in three files
			source = filepath.Join(dir, "model.safetensors")
		}
		plan, err := convert.Open(source, convert.Options{})
		if err != nil { // a model that was not trained to be ternary
			plan, err = convert.Open(source, convert.Options{Rule: "absmean-row"})
		}
		require.NoError(t, err)
		path := filepath.Join(t.TempDir(), "model.trit")
		_, err = plan.Write(context.Background(), path, nil)
		require.NoError(t, err)
		require.NoError(t, plan.Close())
		f, err := format.Open(path)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, f.Close()) })
		m, err := runtime.LoadModel(f)
		require.NoError(t, err)
		models[filepath.Base(dir)] = m
	}
	models["demo"], _ = openDemo(t)
	emulator.Run(t, func(t *testing.T) {
		for name, m := range models {
			t.Run(name, func(t *testing.T) {
				vocab := m.Config.VocabSize
				cpu, e := engine(t, m, runtime.Options{}), gpu(t, m, runtime.Options{})
				tokens := ids(5, vocab, 1)
				want := forward(t, cpu, runtime.Span{Seq: cpu.NewSequence(), Tokens: tokens, Logits: runtime.PositionAll})[0].Logits
				s := e.NewSequence()
				got := forward(t, e, runtime.Span{Seq: s, Tokens: tokens[:3], Logits: runtime.PositionAll})[0].Logits
				for at := 3; at < 5; at++ {
					got = append(got, forward(t, e, runtime.Span{Seq: s, Tokens: tokens[at : at+1], Logits: runtime.PositionLast})[0].Logits...)
				}
				require.Equal(t, want, got)
			})
		}
	})
}

// aligned are shapes that the kernels for one token are for.
var aligned = map[string]struct {
	shape   synth.Shape
	storage synth.Storage
	opt     convert.Options
}{
	"bitnet": {synth.Shape{Class: "BitNetForCausalLM", Hidden: 256, Layers: 2, Heads: 2, KVHeads: 1, Intermediate: 384, Vocab: 99, Context: 330, Tied: true, AttentionBias: true},
		synth.Online, convert.Options{}},
	"llama": {synth.Shape{Class: "LlamaForCausalLM", Hidden: 1152, Layers: 1, Heads: 4, KVHeads: 2, HeadDim: 64, Intermediate: 128, Vocab: 96, Context: 330},
		synth.Dense, convert.Options{Rule: "absmean-row", Activations: "int8", Head: "int8"}},
}

// TestCUDADecode: the kernels for one token, as graphs and one by one, and the loop in which the device feeds itself,
// give the bits of the reference, across pages and chunks of attention.
func TestCUDADecode(t *testing.T) {
	models := map[string]*runtime.Model{}
	for name, s := range aligned {
		f, err := format.Open(tinyFile(t, s.shape, s.storage, s.opt))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, f.Close()) })
		models[name], err = runtime.LoadModel(f)
		require.NoError(t, err)
	}
	// Rows of the head that repeat: logits that are equal.
	path := filepath.Join(t.TempDir(), "ties.trit")
	shape := synth.Shape{Class: "LlamaForCausalLM", Hidden: 128, Layers: 1, Heads: 2, KVHeads: 1, Intermediate: 128, Vocab: 320, Context: 330, Tied: true}
	require.NoError(t, synth.WriteModel(path, shape.Config(), format.BF16))
	f, err := format.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	models["ties"], err = runtime.LoadModel(f)
	require.NoError(t, err)
	// Norms of heads and of the residual stream, and a ternary head.
	path = filepath.Join(t.TempDir(), "tritter.trit")
	config := synth.Shape{Class: synth.Tritter, Hidden: 256, Layers: 2, Heads: 4, KVHeads: 2, Intermediate: 384, Vocab: 320, Context: 330}.Config()
	config.ActivationQuant = model.ActivationInt8
	require.NoError(t, synth.WriteModel(path, config, format.Trit2))
	f, err = format.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	models["tritter"], err = runtime.LoadModel(f)
	require.NoError(t, err)
	emulator.Run(t, func(t *testing.T) {
		for name, m := range models {
			t.Run(name, func(t *testing.T) {
				vocab := m.Config.VocabSize
				cpu, e := engine(t, m, runtime.Options{}), gpu(t, m, runtime.Options{})
				require.True(t, runtime.CanDecode(e))
				portable := gpu(t, m, runtime.Options{})
				require.NoError(t, runtime.Portable(portable))
				tokens := ids(330, vocab, 1)
				a, b, c := cpu.NewSequence(), e.NewSequence(), portable.NewSequence()
				at := 0
				for _, stop := range []int{1, 61, 125, 317} { // prefill up to here, then some tokens alone
					if stop > at {
						forward(t, cpu, runtime.Span{Seq: a, Tokens: tokens[at:stop]})
						forward(t, e, runtime.Span{Seq: b, Tokens: tokens[at:stop]})
						forward(t, portable, runtime.Span{Seq: c, Tokens: tokens[at:stop]})
					}
					for at = stop; at < stop+5; at++ {
						runtime.PlainLaunches(e, at%2 == 0)
						span := runtime.Span{Tokens: tokens[at : at+1], Logits: runtime.PositionLast}
						span.Seq = a
						want := forward(t, cpu, span)[0].Logits
						span.Seq = b
						require.Equal(t, want, forward(t, e, span)[0].Logits, "position %d", at)
						span.Seq = c
						require.Equal(t, want, forward(t, portable, span)[0].Logits, "position %d, kernels of all devices", at)
					}
				}

				if name == "ties" {
					bench, err := runtime.BenchGPU(context.Background(), e, 5, 6)
					require.NoError(t, err)
					require.NotEmpty(t, bench.Kernels)
					require.Positive(t, bench.Median)
				}

				// Prompts of two sequences beside each other.
				span := []runtime.Span{{Tokens: tokens[:70], Logits: runtime.PositionAll}, {Tokens: tokens[100:133], Logits: runtime.PositionLast}}
				batch := func(e runtime.Engine) []runtime.Result {
					span[0].Seq, span[1].Seq = e.NewSequence(), e.NewSequence()
					return forward(t, e, span...)
				}
				require.Equal(t, batch(cpu), batch(e))

				// Every way to draw, by the device and by the host.
				for i, sampling := range []runtime.Sampling{
					{Temperature: 1, TopP: 1, RepetitionPenalty: 1},
					{Temperature: 0.7, TopP: 0.9, RepetitionPenalty: 1.3},
					{Temperature: 2, TopP: 0.95, TopK: 20, RepetitionPenalty: 1},
					{Temperature: 1.5, TopP: 1, TopK: 3, MinP: 0.02, RepetitionPenalty: 0.8},
					{Temperature: 2, TopP: 1, MinP: 0.3, RepetitionPenalty: 1},
					{Temperature: 0, TopP: 1, RepetitionPenalty: 1.5},
				} {
					sampling.Seed = 1<<40 + uint64(i)
					request := runtime.Request{Tokens: ids(9, vocab, i), MaxNewTokens: 8, Sampling: sampling, Penalized: []int{1, 2}}
					want, _ := generate(t, cpu, request)
					got, _ := generate(t, e, request)
					require.Equal(t, want, got, "%+v", sampling)
				}

				// Greedy generation, interrupted by other calls.
				for _, length := range []int{5, 62} {
					request := runtime.Request{Tokens: ids(length, vocab, 3), MaxNewTokens: 12, Sampling: greedy}
					want, finish := generate(t, cpu, request)
					require.Equal(t, runtime.FinishLength, finish[0])
					var got []int
					finish, err := e.Generate(context.Background(), []runtime.Request{request}, func(_, id int) bool {
						got = append(got, id)
						if len(got)%5 == 0 {
							forward(t, e, runtime.Span{Seq: e.NewSequence(), Tokens: ids(len(got)/5, vocab, 4)})
						}
						return true
					})
					require.NoError(t, err)
					require.Equal(t, runtime.FinishLength, finish[0])
					require.Equal(t, want[0], got)

					request.EOS = want[0][7:8]
					want, finish = generate(t, cpu, request)
					got2, finish2 := generate(t, e, request)
					require.Equal(t, want, got2)
					require.Equal(t, finish, finish2)
				}
			})
		}
	})
}

// TestCUDADecodeNorms: norms of the residual stream, of inputs and of heads, of vectors of several blocks of a sum, the last of which is
// not whole.
func TestCUDADecodeNorms(t *testing.T) {
	configs := map[string]*model.Config{}
	for name, norms := range map[string][]model.NormPosition{
		"tritter": {model.NormAttn, model.NormK, model.NormPostMLP, model.NormQ},
		"all":     {model.NormAttn, model.NormAttnSub, model.NormK, model.NormMLP, model.NormMLPSub, model.NormPostAttn, model.NormPostMLP, model.NormQ},
	} {
		for _, kind := range []model.NormKind{model.RMSNorm, model.LayerNorm} {
			c := synth.Shape{Class: synth.Tritter, Hidden: 1152, Layers: 2, Heads: 2, KVHeads: 1, HeadDim: 64, Intermediate: 3200, Vocab: 96, Context: 70}.Config()
			c.ActivationQuant, c.Norm, c.Norms = model.ActivationInt8, kind, norms
			configs[name+" "+string(kind)] = c
		}
	}
	emulator.Run(t, func(t *testing.T) {
		for name, config := range configs {
			t.Run(name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "norms.trit")
				require.NoError(t, synth.WriteModel(path, config, format.Trit2))
				f, err := format.Open(path)
				require.NoError(t, err)
				defer func() { require.NoError(t, f.Close()) }()
				m, err := runtime.LoadModel(f)
				require.NoError(t, err)
				cpu, e := engine(t, m, runtime.Options{}), gpu(t, m, runtime.Options{})
				require.True(t, runtime.CanDecode(e))
				portable := gpu(t, m, runtime.Options{})
				require.NoError(t, runtime.Portable(portable))
				engines := []runtime.Engine{cpu, e, portable}
				var sequences []runtime.Sequence
				for _, e := range engines {
					sequences = append(sequences, e.NewSequence())
				}
				for at, id := range ids(3, config.VocabSize, 1) {
					var want []float32
					for i, e := range engines {
						got := forward(t, e, runtime.Span{Seq: sequences[i], Tokens: []int{id}, Logits: runtime.PositionLast})[0].Logits
						if i == 0 {
							want = got
						}
						require.Equal(t, want, got, "position %d, %s", at, e.Name())
					}
				}
			})
		}
	})
}

// TestCUDARepeats: the same calls give the same bits each time, many times on a GPU.
func TestCUDARepeats(t *testing.T) {
	emulator.Run(t, func(t *testing.T) {
		s := aligned["bitnet"]
		f, err := format.Open(tinyFile(t, s.shape, s.storage, s.opt))
		require.NoError(t, err)
		defer func() { require.NoError(t, f.Close()) }()
		m, err := runtime.LoadModel(f)
		require.NoError(t, err)
		e := gpu(t, m, runtime.Options{})
		times := 100
		if e.Name() == "cuda/emulator" {
			times = 2
		}
		tokens := ids(203, m.Config.VocabSize, 1)
		var want [][]float32
		for i := range times {
			seq := e.NewSequence()
			got := [][]float32{forward(t, e, runtime.Span{Seq: seq, Tokens: tokens[:200], Logits: runtime.PositionLast})[0].Logits}
			for at := 200; at < len(tokens); at++ {
				got = append(got, forward(t, e, runtime.Span{Seq: seq, Tokens: tokens[at : at+1], Logits: runtime.PositionLast})[0].Logits)
			}
			seq.Close()
			if i == 0 {
				want = got
			}
			require.Equal(t, want, got, "run %d", i)
		}
	})
}

// TestCUDATruncatedFile: a file that shrinks while it is copied to the device is an error.
func TestCUDATruncatedFile(t *testing.T) {
	emulator.Use(t)
	s := aligned["llama"]
	path := tinyFile(t, s.shape, s.storage, s.opt)
	f, err := format.Open(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	m, err := runtime.LoadModel(f)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, 8192))
	_, err = runtime.NewCUDA(m, runtime.Options{})
	require.Error(t, err)
	require.ErrorContains(t, err, "file")
}

// TestCUDAWrongDevice: a device that rounds wrongly is not used, with a self-test in the file.
func TestCUDAWrongDevice(t *testing.T) {
	emulator.Use(t)
	m := tiny(t, "bitnet")
	t.Setenv(emulator.WrongEnv, "1")
	_, err := runtime.NewCUDA(m, runtime.Options{})
	require.ErrorContains(t, err, "emulator computes wrongly: self-test on cuda/emulator: logit 0")
	_, err = runtime.NewCUDA(m, runtime.Options{KV: kernels.KVInt8})
	require.ErrorContains(t, err, "emulator computes wrongly: with a cache of int8, logit 0 of a prompt is")
	e, why, err := runtime.OpenEngine(m, runtime.Options{}, runtime.DeviceAuto)
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	require.Contains(t, e.Name(), "cpu/")
	require.ErrorContains(t, why, "computes wrongly")
}

func TestCUDAErrors(t *testing.T) {
	emulator.Run(t, func(t *testing.T) {
		m := tiny(t, "bitnet")
		hidden := m.Config.HiddenSize
		e := gpu(t, m, runtime.Options{Context: 100})
		s := e.NewSequence()
		forward(t, e, runtime.Span{Seq: s, Tokens: ids(50, m.Config.VocabSize, 1)})
		closed := e.NewSequence()
		closed.Close()
		nan := make([]float32, 2*hidden)
		nan[hidden+3] = float32(math.NaN())
		for _, c := range []struct {
			spans []runtime.Span
			want  string
		}{
			{[]runtime.Span{{Seq: s, Tokens: ids(51, 97, 0)}}, "50 positions and 51 more do not fit in a context of 100"},
			{[]runtime.Span{{Seq: s, Tokens: []int{1, 97}}}, "token 1 is id 97, want 0 to 96"},
			{[]runtime.Span{{Seq: s, Tokens: []int{1}}, {Seq: s, Tokens: []int{1}}}, "two spans"},
			{[]runtime.Span{{Seq: s}}, "at least one token"},
			{[]runtime.Span{{Seq: s, Embeddings: nan}}, "layer 0: NormQuant: a value is NaN"},
			{[]runtime.Span{{Seq: s, Embeddings: nan[hidden:]}}, "layer 0: NormQuant: a value is NaN"},
			{[]runtime.Span{{Seq: closed, Tokens: []int{1}}}, "closed"},
			{[]runtime.Span{{Seq: engine(t, m, runtime.Options{}).NewSequence(), Tokens: []int{1}}}, "another engine"},
		} {
			_, err := e.Forward(context.Background(), c.spans)
			require.ErrorContains(t, err, c.want)
			require.Equal(t, 50, s.Len())
		}
		_, err := runtime.NewCUDA(m, runtime.Options{Context: 301})
		require.ErrorContains(t, err, "context is 301, want 1 to 300")
		_, err = runtime.NewCUDA(m, runtime.Options{KV: kernels.KVInt8, Window: 64})
		require.EqualError(t, err, "a window of 64: CUDA devices have no windows; use none, or --device cpu")
	})
}

// TestCUDAOutOfMemory: a model that does not fit is refused before anything is allocated, and a cache that does not
// grow any more is an error after which the engine still works.
func TestCUDAOutOfMemory(t *testing.T) {
	emulator.Use(t)
	m := tiny(t, "bitnet")
	const capacity = 81 << 20 // little more than the staging buffers
	t.Setenv(emulator.MemoryEnv, strconv.Itoa(capacity))
	_, err := runtime.NewCUDA(m, runtime.Options{})
	var full *cuda.MemoryError
	require.ErrorAs(t, err, &full)
	require.Greater(t, full.Need, full.Free)
	require.ErrorContains(t, err, "MB free; close other programs that use it, lower --context, or use --device cpu")

	t.Setenv(emulator.MemoryEnv, strconv.FormatInt(capacity-full.Free+full.Need+500<<10, 10))
	e := gpu(t, m, runtime.Options{})
	tokens := ids(200, m.Config.VocabSize, 1)
	var sequences []runtime.Sequence
	for err = nil; err == nil; {
		s := e.NewSequence()
		_, err = e.Forward(context.Background(), []runtime.Span{{Seq: s, Tokens: tokens}})
		sequences = append(sequences, s)
		require.Less(t, len(sequences), 1000)
	}
	require.ErrorIs(t, err, driver.ErrOutOfMemory)
	require.ErrorContains(t, err, "positions of key-value cache")
	require.Zero(t, sequences[len(sequences)-1].Len())
	want := forward(t, e, runtime.Span{Seq: sequences[0], Tokens: tokens[:1], Logits: runtime.PositionLast})
	require.Len(t, want[0].Logits, m.Config.VocabSize)
}

package convert_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/runtime"
	"github.com/tritter-ai/tritter/verify"
)

const fixtures = "../testdata/fixtures"

// convertTo converts a checkpoint in a temporary folder and returns the file.
func convertTo(t *testing.T, source string, opt convert.Options) string {
	t.Helper()
	plan, err := convert.Open(source, opt)
	require.NoError(t, err)
	defer plan.Close()
	path := filepath.Join(t.TempDir(), "model.trit")
	_, err = plan.Write(context.Background(), path, nil)
	require.NoError(t, err)
	return path
}

func openEngine(t *testing.T, path string) runtime.Engine {
	t.Helper()
	f, err := format.Open(path)
	require.NoError(t, err)
	m, err := runtime.LoadModel(f)
	require.NoError(t, err)
	e, err := runtime.NewCPU(m, runtime.Options{})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, e.Close())
		require.NoError(t, f.Close())
	})
	return e
}

func forward(t *testing.T, e runtime.Engine, ids []int, want runtime.Positions) []float32 {
	t.Helper()
	seq := e.NewSequence()
	defer seq.Close()
	r, err := e.Forward(context.Background(), []runtime.Span{{Seq: seq, Tokens: ids, Logits: want}})
	require.NoError(t, err)
	return r[0].Logits
}

// expected is what transformers computed for a fixture.
type expected struct {
	Prompts []struct {
		Text   string
		IDs    []int
		Logits string
		Greedy []int
		Margin []float64 `json:"greedy_margin"`
	}
	Long struct {
		IDs    []int
		Logits string `json:"logits_last4"`
	}
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, v))
}

// readNPY reads a float32 array of two dimensions.
func readNPY(t *testing.T, path string) (rows [][]float32) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "\x93NUMPY", string(data[:6]))
	n := int(binary.LittleEndian.Uint16(data[8:]))
	header := string(data[10 : 10+n])
	require.Contains(t, header, "'<f4'")
	require.Contains(t, header, "'fortran_order': False")
	_, shape, _ := strings.Cut(header, "'shape': (")
	var r, c int
	require.NoError(t, json.Unmarshal([]byte("["+shape[:strings.IndexByte(shape, ')')]+"]"), &[]any{&r, &c}))
	require.Len(t, data, 10+n+4*r*c)
	for i := range r {
		row := make([]float32, c)
		for j := range row {
			row[j] = math.Float32frombits(binary.LittleEndian.Uint32(data[10+n+4*(i*c+j):]))
		}
		rows = append(rows, row)
	}
	return rows
}

// compared says how far logits are from torch's, in units of their spread (the
// standard deviation of torch's logits).
type compared struct {
	worst, cosine float64
}

func compare(got, want []float32) compared {
	var sum, sum2, dot, gg float64
	for i := range want {
		w, g := float64(want[i]), float64(got[i])
		sum, sum2, dot, gg = sum+w, sum2+w*w, dot+w*g, gg+g*g
	}
	n := float64(len(want))
	spread := math.Sqrt(sum2/n - sum/n*sum/n)
	c := compared{cosine: dot / math.Sqrt(sum2*gg)}
	for i := range want {
		c.worst = max(c.worst, math.Abs(float64(got[i])-float64(want[i]))/spread)
	}
	return c
}

func argmax(x []float32) (best int) {
	for i := range x {
		if x[i] > x[best] {
			best = i
		}
	}
	return best
}

func spread(x []float32) float64 {
	var sum, sum2 float64
	for _, v := range x {
		sum, sum2 = sum+float64(v), sum2+float64(v)*float64(v)
	}
	n := float64(len(x))
	return math.Sqrt(sum2/n - sum/n*sum/n)
}

// TestAgainstTransformers holds converted fixtures to the logits and greedy
// tokens of transformers in float32. With int8 activations, a code on a rounding
// edge flips on the last bit of anything before it, and one flip moves a logit by
// percents of the spread: so nine tenths of the short positions must agree to
// 1e-4 of the spread, and every position in direction. Without activation
// quantization all of them must agree.
func TestAgainstTransformers(t *testing.T) {
	for _, c := range []struct {
		name, dir, want string
		opt             convert.Options
		exact           bool // no activation quantization
	}{
		{name: "bitnet-online", dir: "bitnet-online"},
		{name: "bitnet-packed", dir: "bitnet-packed"},
		{name: "bitnet-packed-trit3", dir: "bitnet-packed", opt: convert.Options{Encoding: "trit3"}},
		{name: "llama-bitlinear-packed", dir: "llama-bitlinear-packed"},
		{name: "bitnet-online-made", dir: "made-bitnet-online"},
		{name: "bitnet-packed-made", dir: "made-bitnet-packed"},
		{name: "llama-packed-made", dir: "made-llama-packed"},
		{name: "llama-dense-made", dir: "made-llama-dense", opt: convert.Options{Rule: "absmean-row"}, exact: true},
		{name: "rmsnorm-online", dir: "made-rmsnorm-online"},
		{name: "rmsnorm-packed", dir: "made-rmsnorm-packed"},
		{name: "1bitllm", dir: "made-1bitllm"},
		{name: "trilm", dir: "made-trilm", exact: true},
		{name: "qwen2", dir: "made-qwen2", opt: convert.Options{Rule: "absmean-row"}, exact: true},
		{name: "qwen3", dir: "made-qwen3", opt: convert.Options{Rule: "absmean-row"}, exact: true},
		{name: "mistral", dir: "made-mistral", opt: convert.Options{Rule: "absmean-row"}, exact: true},
		{name: "llama-dense-absmean", dir: "llama-dense-sharded", want: "expected-absmean-per-tensor", opt: convert.Options{Rule: "absmean"}, exact: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(fixtures, c.dir)
			e := openEngine(t, convertTo(t, dir, c.opt))
			vocab := e.Model().Config.VocabSize
			golden := filepath.Join(dir, c.want)
			var exp expected
			readJSON(t, filepath.Join(golden, "expected.json"), &exp)
			sameOnEveryEngine(t, e)
			close, positions, steps := 0, 0, 0
			check := func(got, want []float32) compared {
				r := compare(got, want)
				require.Greater(t, r.cosine, 0.999)
				if c.exact {
					require.Less(t, r.worst, 1e-4)
				}
				return r
			}
			for _, p := range exp.Prompts {
				want := readNPY(t, filepath.Join(golden, p.Logits))
				got := forward(t, e, p.IDs, runtime.PositionAll)
				require.Len(t, want, len(p.IDs))
				for i, row := range want {
					positions++
					if check(got[i*vocab:(i+1)*vocab], row).worst < 1e-4 {
						close++
					}
				}
				// Teacher-forced, so that one undecided step does not spoil the rest.
				all := forward(t, e, append(append([]int{}, p.IDs...), p.Greedy...), runtime.PositionAll)
				limit := spread(want[len(want)-1]) / 10
				for i, id := range p.Greedy {
					if p.Margin[i] > limit {
						at := len(p.IDs) - 1 + i
						require.Equal(t, id, argmax(all[at*vocab:(at+1)*vocab]), "step %d, margin %g", i, p.Margin[i])
						steps++
					}
				}
			}
			require.GreaterOrEqual(t, 10*close, 9*positions, "%d of %d positions", close, positions)
			require.NotZero(t, steps)
			long := forward(t, e, exp.Long.IDs, runtime.PositionAll)
			for i, row := range readNPY(t, filepath.Join(golden, exp.Long.Logits)) {
				at := len(exp.Long.IDs) - 4 + i
				check(long[at*vocab:(at+1)*vocab], row)
			}
			t.Logf("%d of %d positions within 1e-4, %d greedy steps", close, positions, steps)
		})
	}
}

// sameOnEveryEngine: all implementations of the kernels give the same bits.
func sameOnEveryEngine(t *testing.T, e runtime.Engine) {
	t.Helper()
	ids := make([]int, min(70, e.Model().Config.MaxPositionEmbeddings))
	for i := range ids {
		ids[i] = (i*i + 3) % e.Model().Config.VocabSize
	}
	want := forward(t, e, ids, runtime.PositionAll)
	for _, ops := range cpu.Implementations() {
		other, err := runtime.NewCPU(e.Model(), runtime.Options{Threads: 3, Kernels: ops})
		require.NoError(t, err)
		require.True(t, slices.Equal(want, forward(t, other, ids, runtime.PositionAll)), ops.Name())
		require.NoError(t, other.Close())
	}
}

// TestDemo holds the embedded model to transformers: teacher-forced on the greedy
// tokens, the argmax is theirs wherever the margin exceeds half a logit.
func TestDemo(t *testing.T) {
	e := openEngine(t, "../demo/demo.trit")
	sameOnEveryEngine(t, e)
	vocab := e.Model().Config.VocabSize
	var exp struct {
		Samples []struct {
			IDs    []int
			Greedy []int
			Margin []float64 `json:"greedy_margin"`
		}
	}
	readJSON(t, "../testdata/demo/expected.json", &exp)
	steps := 0
	for _, s := range exp.Samples {
		logits := forward(t, e, append(append([]int{}, s.IDs...), s.Greedy...), runtime.PositionAll)
		for i, id := range s.Greedy {
			if s.Margin[i] > 0.5 {
				at := len(s.IDs) - 1 + i
				require.Equal(t, id, argmax(logits[at*vocab:(at+1)*vocab]), "step %d, margin %g", i, s.Margin[i])
				steps++
			}
		}
	}
	require.Equal(t, 489, steps)
	first := forward(t, e, exp.Samples[0].IDs, runtime.PositionAll)
	for i, row := range readNPY(t, "../testdata/demo/logits0.npy") {
		require.Greater(t, compare(first[i*vocab:(i+1)*vocab], row).cosine, 0.999)
	}
}

// TestDemoIsCurrent rebuilds the embedded model from its checkpoint, bit for bit,
// with the options that go generate uses.
func TestDemoIsCurrent(t *testing.T) {
	path := convertTo(t, "../testdata/demo", convert.Options{Generation: map[string]string{
		"modality": "code", "temperature": "0.7", "top_p": "0.9", "repetition_penalty": "1.1"}})
	want, err := os.ReadFile("../demo/demo.trit")
	require.NoError(t, err)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, string(got) == string(want), "demo/demo.trit is out of date: go generate ./demo")
	require.LessOrEqual(t, len(want), 8<<20)
}

// TestVerifyAcceptsFixtures: what is converted verifies, runs, and derives from
// its source again.
func TestVerifyAcceptsFixtures(t *testing.T) {
	for dir, opt := range map[string]convert.Options{
		"bitnet-online": {}, "bitnet-packed": {}, "llama-bitlinear-packed": {},
		"llama-dense-sharded": {Rule: "absmean-group=128", Activations: "int8", Encoding: "trit3", Head: "int8"},
	} {
		t.Run(dir, func(t *testing.T) {
			source := filepath.Join(fixtures, dir)
			report, err := verify.File(context.Background(), convertTo(t, source, opt), verify.Options{Run: true, Source: source}, nil)
			require.NoError(t, err)
			require.Empty(t, report.Findings)
			for _, c := range report.Checks {
				if c.Name == "codebooks" {
					require.Equal(t, verify.Skipped, c.Status)
				} else if c.Name != "symmetry" || dir == "bitnet-online" || dir == "llama-dense-sharded" {
					require.Equal(t, verify.Passed, c.Status, c.Name)
				}
			}
		})
	}
}

// TestPackedAndOnlineGiveTheSameTrits: two checkpoints of the same weights.
func TestPackedAndOnlineGiveTheSameTrits(t *testing.T) {
	a, err := format.Open(convertTo(t, filepath.Join(fixtures, "bitnet-online"), convert.Options{}))
	require.NoError(t, err)
	defer a.Close()
	b, err := format.Open(convertTo(t, filepath.Join(fixtures, "bitnet-packed"), convert.Options{}))
	require.NoError(t, err)
	defer b.Close()
	n := 0
	for _, info := range a.Header().Tensors {
		if info.Encoding == format.Trit2 {
			other, ok := b.Tensor(info.Name)
			require.True(t, ok)
			require.Equal(t, info.SHA256, other.Info().SHA256, info.Name)
			n++
		}
	}
	require.Equal(t, 14, n)
}

// TestPyTorchEqualsSafetensors: the same model as two pickled shards and as nine
// safetensors shards gives the same tensors.
func TestPyTorchEqualsSafetensors(t *testing.T) {
	opt := convert.Options{Rule: "absmean"}
	a, err := format.Open(convertTo(t, filepath.Join(fixtures, "llama-dense-sharded"), opt))
	require.NoError(t, err)
	defer a.Close()
	source := filepath.Join(fixtures, "llama-dense-bin")
	path := convertTo(t, source, opt)
	b, err := format.Open(path)
	require.NoError(t, err)
	defer b.Close()
	require.Equal(t, a.Header().Tensors, b.Header().Tensors, "names, places and hashes")
	report, err := verify.File(context.Background(), path, verify.Options{Source: source}, nil)
	require.NoError(t, err)
	require.Empty(t, report.Findings)
}

// TestDeterministic: the bytes depend neither on the number of workers nor on
// when they run.
func TestDeterministic(t *testing.T) {
	var first string
	for _, workers := range []int{1, 8, 8} {
		data, err := os.ReadFile(convertTo(t, filepath.Join(fixtures, "llama-dense-sharded"), convert.Options{Rule: "absmean-row", Workers: workers}))
		require.NoError(t, err)
		if first == "" {
			first = string(data)
		}
		require.True(t, first == string(data), "%d workers", workers)
	}
}

// TestTritter holds Tritter's own model to its reference implementation: logits
// and hidden states within 1e-4 of their spread at every position (activations
// are floats), and the same trits from each form of the checkpoint.
func TestTritter(t *testing.T) {
	dir := filepath.Join(fixtures, "tritter")
	var exp expected
	readJSON(t, filepath.Join(dir, "expected.json"), &exp)
	var trits map[string][32]byte
	for _, name := range []string{"model.safetensors", "checkpoint.pt", "packed.pt"} {
		t.Run(name, func(t *testing.T) {
			e := openEngine(t, convertTo(t, filepath.Join(dir, name), convert.Options{}))
			vocab, hidden := e.Model().Config.VocabSize, e.Model().Config.HiddenSize
			for _, p := range exp.Prompts {
				got := forward(t, e, p.IDs, runtime.PositionAll)
				for i, row := range readNPY(t, filepath.Join(dir, p.Logits)) {
					require.Less(t, compare(got[i*vocab:(i+1)*vocab], row).worst, 1e-4)
				}
			}
			states, err := runtime.Embed(context.Background(), e, []int{1, 4, 72, 73}, true)
			require.NoError(t, err)
			for i, row := range readNPY(t, filepath.Join(dir, "embeddings.npy")) {
				require.Less(t, compare(states[i*hidden:(i+1)*hidden], row).worst, 1e-4)
			}
			sums := map[string][32]byte{}
			for _, info := range e.Model().File().Header().Tensors {
				if info.Encoding == format.Trit2 {
					sums[info.Name] = info.SHA256
				}
			}
			require.Len(t, sums, 15, "seven projections of two layers, and the head")
			if trits == nil {
				trits = sums
			}
			require.Equal(t, trits, sums)
		})
	}
}

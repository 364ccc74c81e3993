package runtime

import (
	"cmp"
	"math"
	"math/big"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tritter-ai/tritter/kernels/ref"
)

// TestPhilox checks the known answers that the authors of Random123 publish for
// Philox4x32-10, as far as a counter of two words reaches, and the round itself
// on the others.
func TestPhilox(t *testing.T) {
	require.Equal(t, uint64(0x6627e8d5)|uint64(0xe169c58d)<<32, philox(0, 0))
	full := func(c [4]uint32, k0, k1 uint32) [4]uint32 {
		for range 10 {
			c = philoxRound(c, k0, k1)
			k0, k1 = k0+0x9e3779b9, k1+0xbb67ae85
		}
		return c
	}
	ones := uint32(math.MaxUint32)
	require.Equal(t, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}, full([4]uint32{}, 0, 0))
	require.Equal(t, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}, full([4]uint32{ones, ones, ones, ones}, ones, ones))
	require.Equal(t, [4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}, full([4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0))
}

// sampleSlowly is the procedure as the specification tells it: everything sorted,
// every sum a big integer.
func sampleSlowly(s *Sampling, logits []float32, seen map[int]bool, position int) int {
	type token struct {
		id int
		l  float32
		w  *big.Int
	}
	tokens := make([]token, len(logits))
	for id, l := range logits {
		if p := float32(s.RepetitionPenalty); seen[id] && p != 1 {
			if l > 0 {
				l /= p
			} else {
				l *= p
			}
		}
		if float32(s.Temperature) != 0 {
			l /= float32(s.Temperature)
		}
		tokens[id] = token{id: id, l: l}
	}
	slices.SortStableFunc(tokens, func(a, b token) int { return cmp.Compare(b.l, a.l) })
	if float32(s.Temperature) == 0 {
		return tokens[0].id
	}
	top := tokens[0].l
	for i := range tokens {
		f := new(big.Float).SetMantExp(big.NewFloat(float64(ref.Exp32(tokens[i].l-top))), 40)
		tokens[i].w, _ = f.Int(nil)
	}
	if s.TopK > 0 {
		tokens = tokens[:min(s.TopK, len(tokens))]
	}
	total := func() *big.Int {
		sum := new(big.Int)
		for _, t := range tokens {
			sum.Add(sum, t.w)
		}
		return sum
	}
	if s.TopP < 1 {
		w, _ := new(big.Float).SetInt(total()).Float64()
		enough, _ := big.NewFloat(math.Ceil(s.TopP * w)).Int(nil)
		run := new(big.Int)
		for i, t := range tokens {
			if run.Add(run, t.w).Cmp(enough) >= 0 {
				tokens = tokens[:i+1]
				break
			}
		}
	}
	if s.MinP > 0 {
		for i, t := range tokens {
			if float64(ref.Exp32(t.l-top)) < s.MinP {
				tokens = tokens[:i]
				break
			}
		}
	}
	target := new(big.Int).SetUint64(philox(s.Seed, uint64(position)))
	target.Rsh(target.Mul(target, total()), 64)
	run := new(big.Int)
	for _, t := range tokens {
		if run.Add(run, t.w).Cmp(target) > 0 {
			return t.id
		}
	}
	panic("nothing drawn")
}

func TestSampleEqualsTheSpecification(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "vocab")
		spread := rapid.SampledFrom([]float32{0, 0.1, 3, 40}).Draw(t, "spread")
		grid := rapid.SampledFrom([]float32{0, 0.5}).Draw(t, "grid") // ties
		logits := make([]float32, n)
		for i, v := range rapid.SliceOfN(rapid.Float32Range(-1, 1), n, n).Draw(t, "logits") {
			logits[i] = v * spread
			if grid > 0 {
				logits[i] = float32(math.Round(float64(logits[i]/grid))) * grid
			}
		}
		seen := map[int]bool{}
		for _, id := range rapid.SliceOfN(rapid.IntRange(0, n-1), 0, 20).Draw(t, "seen") {
			seen[id] = true
		}
		s := &Sampling{
			Temperature:       rapid.SampledFrom([]float64{0, 1e-50, 0.01, 0.7, 1, 2}).Draw(t, "temperature"),
			TopP:              rapid.SampledFrom([]float64{1e-9, 0.1, 0.9, 0.999999999999, 1}).Draw(t, "top_p"),
			TopK:              rapid.SampledFrom([]int{0, 1, 5, 1000}).Draw(t, "top_k"),
			MinP:              rapid.SampledFrom([]float64{0, 1e-50, 0.01, 0.5, 1}).Draw(t, "min_p"),
			RepetitionPenalty: rapid.SampledFrom([]float64{1, 1.3, 0.5}).Draw(t, "penalty"),
			Seed:              rapid.Uint64().Draw(t, "seed"),
		}
		position := rapid.IntRange(0, 1<<20).Draw(t, "position")
		want := sampleSlowly(s, slices.Clone(logits), seen, position)
		got, err := s.Sample(logits, seen, position)
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

// TestDrawsFollowTheProbabilities compares frequencies with softmax. The seed is
// fixed, so the test has one outcome; the bound is four standard deviations.
func TestDrawsFollowTheProbabilities(t *testing.T) {
	logits := []float32{1, 0, -1, 2, 0.5}
	var total float64
	for _, l := range logits {
		total += math.Exp(float64(l))
	}
	const n = 200000
	count := make([]int, len(logits))
	s := &Sampling{Temperature: 1, TopP: 1, RepetitionPenalty: 1, Seed: 42}
	for i := range n {
		id, err := s.Sample(slices.Clone(logits), nil, i)
		require.NoError(t, err)
		count[id]++
	}
	for id, l := range logits {
		p := math.Exp(float64(l)) / total
		require.InDelta(t, p*n, count[id], 4*math.Sqrt(n*p*(1-p)), "token %d", id)
	}
}

func TestSampleRefusesNonFinite(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		s := DefaultSampling()
		_, err := s.Sample([]float32{1, float32(bad)}, nil, 0)
		require.ErrorContains(t, err, "value 1 is")
	}
}

func TestSamplingValidate(t *testing.T) {
	s := DefaultSampling()
	require.NoError(t, s.Validate())
	for want, s := range map[string]Sampling{
		"temperature must be in [0, 2.0], got 2.1":                {Temperature: 2.1, TopP: 1, RepetitionPenalty: 1},
		"temperature must be in [0, 2.0], got NaN":                {Temperature: math.NaN(), TopP: 1, RepetitionPenalty: 1},
		"top_p must be in (0, 1], got 0":                          {TopP: 0, RepetitionPenalty: 1},
		"top_k must be at least 0, got -1":                        {TopP: 1, TopK: -1, RepetitionPenalty: 1},
		"min_p must be in [0, 1], got 2":                          {TopP: 1, MinP: 2, RepetitionPenalty: 1},
		"repetition_penalty must be in [0.01, 100], got 0; 1 tur": {TopP: 1},
	} {
		require.ErrorContains(t, s.Validate(), want)
	}
}

// TestWeightsCannotOverflow: the greatest vocabulary of equal logits still sums
// inside 64 bits.
func TestWeightsCannotOverflow(t *testing.T) {
	require.Equal(t, uint64(1)<<40, weight(1))
	hi, _ := bits.Mul64(weight(1), 1<<24-1)
	require.Zero(t, hi)
	require.Equal(t, -1, binOf(-28.001))
	require.Equal(t, -1, binOf(float32(math.Inf(-1))))
	require.Zero(t, weight(ref.Exp32(-28.001)), "what has no bin has no weight")
	require.Equal(t, binCount-1, binOf(-28))
	require.Zero(t, binOf(float32(math.Copysign(0, -1))))
}

// TestExpBelow compares the exponential of the draw with the reference, on a grid
// of bit patterns and around every multiple of ln 2.
func TestExpBelow(t *testing.T) {
	same := func(x float32) {
		if x <= 0 && x >= -farthest && expBelow(x) != ref.Exp32(x) {
			require.Equal(t, ref.Exp32(x), expBelow(x), "exp(%v)", x)
		}
	}
	same(0)
	for u := uint32(1 << 31); u <= math.Float32bits(-farthest); u += 1009 {
		same(math.Float32frombits(u))
	}
	for n := range 41 {
		at := math.Float32bits(float32(-math.Ln2 * (float64(n) + 0.5)))
		for i := range uint32(4000) {
			same(math.Float32frombits(at - 2000 + i))
		}
	}
}

// logitsOf returns random logits of a vocabulary, spread as those of a model.
func logitsOf(vocab int) []float32 {
	rng := rand.New(rand.NewPCG(1, 2))
	out := make([]float32, vocab)
	for i := range out {
		out[i] = float32(rng.NormFloat64() * 3)
	}
	out[vocab/3] = 18
	return out
}

func TestSampleAllocatesNothing(t *testing.T) {
	if RaceEnabled {
		t.Skip("sync.Pool allocates under the race detector")
	}
	logits, buf := logitsOf(5000), make([]float32, 5000)
	for _, s := range []Sampling{{TopP: 1, RepetitionPenalty: 1}, {Temperature: 0.7, TopP: 0.9, TopK: 50, MinP: 0.01, RepetitionPenalty: 1.1}} {
		position := 0
		require.Zero(t, testing.AllocsPerRun(100, func() {
			copy(buf, logits)
			position++
			_, err := s.Sample(buf, map[int]bool{}, position)
			require.NoError(t, err)
		}))
	}
}

// BenchmarkSample draws from a vocabulary of 128,256 tokens.
func BenchmarkSample(b *testing.B) {
	logits := logitsOf(128256)
	buf := make([]float32, len(logits))
	for name, s := range map[string]Sampling{
		"greedy": {TopP: 1, RepetitionPenalty: 1},
		"top-p":  {Temperature: 1, TopP: 0.9, RepetitionPenalty: 1},
		"all":    {Temperature: 0.7, TopP: 0.9, TopK: 50, MinP: 0.01, RepetitionPenalty: 1.1},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			position := 0
			for b.Loop() {
				copy(buf, logits)
				position++
				if _, err := s.Sample(buf, nil, position); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

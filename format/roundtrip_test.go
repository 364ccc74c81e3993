package format

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// openers are the ways to open a file; all must give the same.
func openers(t require.TestingT, path string, data []byte) map[string]*File {
	m, err := Open(path)
	require.NoError(t, err)
	b, err := OpenBytes(data)
	require.NoError(t, err)
	r, err := OpenReaderAt(bytes.NewReader(data), int64(len(data)))
	require.NoError(t, err)
	return map[string]*File{"map": m, "bytes": b, "reader": r}
}

func requireClean(t require.TestingT, f *File) {
	err := f.Check(context.Background(), 2, func(p Problem) {
		require.Fail(t, "a good file has a problem", "%v", p)
	}, nil)
	require.NoError(t, err)
}

// requireContent compares an open file with what was written.
func requireContent(t require.TestingT, f *File, sources []source, sections map[string][]byte) {
	require.Len(t, f.Header().Tensors, len(sources))
	for i, s := range sources {
		tensor, ok := f.Tensor(s.spec.Name)
		require.True(t, ok)
		info := tensor.Info()
		require.Same(t, &f.Header().Tensors[i], info)
		require.Equal(t, s.spec, TensorSpec{info.Name, info.Encoding, info.Rule, info.Granularity, info.Dims, info.Group})
		data, err := tensor.Data()
		require.NoError(t, err)
		require.Equal(t, s.data, data)
		scales, err := tensor.Scales()
		require.NoError(t, err)
		require.Equal(t, s.scales, scales)
	}
	require.Len(t, f.Header().Sections, len(sections))
	for name, want := range sections {
		got, err := f.Section(name)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, ok := f.Tensor("nothing")
	require.False(t, ok)
	_, err := f.Section("nothing")
	require.ErrorIs(t, err, ErrNoSection)
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "every.trit")
	sources, sections := everySource(t), testSections()
	data := writeFile(t, path, sources, sections)
	require.LessOrEqual(t, len(data), 16<<10)
	for name, f := range openers(t, path, data) {
		t.Run(name, func(t *testing.T) {
			requireContent(t, f, sources, sections)
			requireClean(t, f)
			require.NoError(t, f.Close())
			require.NoError(t, f.Close())
			tensor, _ := f.Tensor("norm.weight")
			_, err := tensor.Data()
			require.ErrorIs(t, err, os.ErrClosed)
		})
	}
	require.Equal(t, []string{"every.trit"}, files(t, filepath.Dir(path)))
}

// specGen draws any spec that the format allows, of small dims.
func specGen(name string) *rapid.Generator[TensorSpec] {
	return rapid.Custom(func(t *rapid.T) TensorSpec {
		s := TensorSpec{Name: name, Encoding: Encoding(rapid.IntRange(1, 6).Draw(t, "encoding"))}
		s.Dims = []int{rapid.IntRange(1, 40).Draw(t, "out"), rapid.OneOf(rapid.IntRange(1, 600), rapid.SampledFrom([]int{128, 256, 384})).Draw(t, "in")}
		switch {
		case s.Encoding.Ternary():
			s.Rule = Rule(rapid.IntRange(1, 3).Draw(t, "rule"))
			s.Granularity = Granularity(rapid.IntRange(1, 3).Draw(t, "granularity"))
			if s.Granularity == ScaleGroup {
				s.Group = 128 * rapid.IntRange(1, 5).Draw(t, "group")
			}
		case s.Encoding == Int8:
			s.Granularity = ScaleRow
		default:
			s.Dims = s.Dims[:rapid.IntRange(1, 2).Draw(t, "rank")]
		}
		return s
	})
}

func TestRoundTripProperty(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		var sources []source
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		for i := range rapid.IntRange(1, 4).Draw(t, "tensors") {
			sources = append(sources, makeSource(t, rng, specGen(fmt.Sprintf("t.%d", i)).Draw(t, "spec")))
		}
		path := filepath.Join(dir, "p.trit")
		data := writeFile(t, path, sources, testSections())
		for _, f := range openers(t, path, data) {
			requireContent(t, f, sources, testSections())
			requireClean(t, f)
			require.NoError(t, f.Close())
		}
		// Every bit of every payload matters: each single flip is found, most
		// by codes and padding too, and the check never passes it.
		f, err := OpenBytes(data)
		require.NoError(t, err)
		at := rapid.Int64Range(f.Header().HeaderLength, int64(len(data))-1).Draw(t, "flip")
		data[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		require.NotEmpty(t, problems(t, f))
	})
}

func problems(t require.TestingT, f *File) []Problem {
	var list []Problem
	require.NoError(t, f.Check(context.Background(), 2, func(p Problem) { list = append(list, p) }, nil))
	return list
}

// TestWriterConcurrency writes tensors from many goroutines in small portions
// and demands the bytes of the sequential writer.
func TestWriterConcurrency(t *testing.T) {
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(3, 4))
	var sources []source
	for i := range 12 {
		spec := TensorSpec{fmt.Sprintf("t.%d", i), Trit2 + Encoding(i%2), AbsMean, ScaleRow, []int{333, 1 + i*200}, 0}
		sources = append(sources, makeSource(t, rng, spec))
	}
	// Longer than the writer's buffer, in one portion and in many.
	sources = append(sources, makeSource(t, rng, TensorSpec{"long", Int8, RuleNone, ScaleRow, []int{3, chunk + 12345}, 0}))
	want := writeFile(t, filepath.Join(dir, "a.trit"), sources, testSections())

	layout, err := NewLayout(specsOf(sources), SectionTokenizer, SectionGeneration, SectionConfig, SectionProvenance)
	require.NoError(t, err)
	w, err := Create(filepath.Join(dir, "b.trit"), layout)
	require.NoError(t, err)
	defer w.Abort()
	var wg sync.WaitGroup
	for i, s := range slices.Backward(sources) {
		step := 1 + rng.IntN(5000)
		wg.Go(func() {
			tw := w.TensorWriter(i)
			if err := tw.SetScales(s.scales); err != nil {
				t.Error(err)
			}
			for p := range slices.Chunk(s.data, step) {
				if n, err := tw.Write(p); err != nil || n != len(p) {
					t.Error(n, err)
				}
			}
		})
	}
	wg.Wait()
	for name, data := range testSections() {
		require.NoError(t, w.SetSection(name, data))
	}
	require.NoError(t, w.Finish())
	got, err := os.ReadFile(filepath.Join(dir, "b.trit"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
}

// TestLongestNames fills the name fields to the last byte.
func TestLongestNames(t *testing.T) {
	name, section := strings.Repeat("n", MaxName), strings.Repeat("s", MaxSectionKey)
	sources := []source{{spec: TensorSpec{name, F32, RuleNone, ScaleNone, []int{1}, 0}, data: make([]byte, 4)}}
	sections := map[string][]byte{SectionConfig: []byte("{}"), section: []byte("x")}
	path := filepath.Join(t.TempDir(), "n.trit")
	for _, f := range openers(t, path, writeFile(t, path, sources, sections)) {
		requireContent(t, f, sources, sections)
		require.NoError(t, f.Close())
	}
}

func TestLayoutGivesPlacesBeforeData(t *testing.T) {
	data := everyFile(t)
	f, err := OpenBytes(data)
	require.NoError(t, err)
	layout, err := NewLayout(everySpec(), SectionProvenance, SectionConfig, SectionGeneration, SectionTokenizer)
	require.NoError(t, err)
	require.Equal(t, f.Header().HeaderLength, layout.HeaderLength())
	for i, planned := range layout.Tensors() {
		written := f.Header().Tensors[i]
		written.SHA256, written.ScaleSHA256 = [32]byte{}, [32]byte{}
		require.Equal(t, written, planned)
	}
	require.Equal(t, alignUp(layout.DataEnd()), f.Header().Sections[0].Offset)
	require.Equal(t, []string{SectionConfig, SectionGeneration, SectionProvenance, SectionTokenizer}, layout.Sections())
}

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		enc  Encoding
		dims []int
		want int64
	}{
		{F32, []int{3}, 12}, {F16, []int{3, 5}, 30}, {BF16, []int{1, 1}, 2}, {Int8, []int{5, 7}, 35},
		{Trit2, []int{1, 1}, 128}, {Trit2, []int{5, 129}, 512}, {Trit3, []int{4, 128}, 104}, {Trit3, []int{5, 129}, 416},
		{Trit2, []int{MaxDim, MaxDim}, 1 << 60},
		{F16, []int{1 << 30, 1 << 31 >> 1}, 1 << 61},
	} {
		got, err := DataSize(c.enc, c.dims)
		require.NoError(t, err)
		require.Equal(t, c.want, got, "%v %v", c.enc, c.dims)
	}
	over := MaxDim
	over++ // negative where int has 32 bits
	for _, dims := range [][]int{nil, {0}, {-1}, {1, 0}, {1, 2, 3}, {over}} {
		_, err := DataSize(F32, dims)
		require.Error(t, err, "%v", dims)
		_, err = ScaleCount(ScaleRow, dims, 0)
		require.Error(t, err, "%v", dims)
	}
	_, err := DataSize(F32, []int{MaxDim, MaxDim})
	require.ErrorContains(t, err, "2^62")
	_, err = DataSize(Trit2, []int{4})
	require.Error(t, err)
	_, err = DataSize(7, []int{4})
	require.Error(t, err)

	n, err := ScaleCount(ScaleGroup, []int{3, 257}, 128)
	require.NoError(t, err)
	require.Equal(t, int64(9), n)
	for _, group := range []int{0, -128, 64, 129} {
		_, err = ScaleCount(ScaleGroup, []int{3, 257}, group)
		require.Error(t, err)
	}
	_, err = ScaleCount(4, []int{1}, 0)
	require.Error(t, err)
}

func TestNames(t *testing.T) {
	require.Equal(t, "f32 f16 bf16 int8 trit2 trit3 encoding(7)", fmt.Sprint(F32, " ", F16, " ", BF16, " ", Int8, " ", Trit2, " ", Trit3, " ", Encoding(7)))
	require.Equal(t, "none absmean threshold verbatim rule(4)", fmt.Sprint(RuleNone, " ", AbsMean, " ", Threshold, " ", Verbatim, " ", Rule(4)))
	require.Equal(t, "none tensor row group granularity(4)", fmt.Sprint(ScaleNone, " ", ScaleTensor, " ", ScaleRow, " ", ScaleGroup, " ", Granularity(4)))
}

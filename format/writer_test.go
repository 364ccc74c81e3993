package format

import (
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLayoutRefuses(t *testing.T) {
	ok := TensorSpec{"a", F32, RuleNone, ScaleNone, []int{1}, 0}
	for _, c := range []struct {
		tensors  []TensorSpec
		sections []string
		want     string
	}{
		{nil, []string{"config"}, "0 tensors, want 1..65536"},
		{make([]TensorSpec, MaxTensors+1), []string{"config"}, "65537 tensors"},
		{[]TensorSpec{ok}, nil, `"config" among them`},
		{[]TensorSpec{ok}, []string{"config", "Upper"}, "want 1 to 32 bytes"},
		{[]TensorSpec{ok}, []string{"config", "config"}, "twice"},
		{[]TensorSpec{ok}, make([]string, 33), "33 sections"},
		{[]TensorSpec{ok, ok}, []string{"config"}, "same name"},
		{[]TensorSpec{{"a", F32, AbsMean, ScaleNone, []int{1}, 0}}, []string{"config"}, "tensor 0 (a): rule is absmean, want none"},
		{[]TensorSpec{{"a", F32, RuleNone, ScaleNone, []int{1, 2, 3}, 0}}, []string{"config"}, "rank is 3, want 1 or 2"},
		{[]TensorSpec{{"a", F32, RuleNone, ScaleNone, []int{1, -2}, 0}}, []string{"config"}, "dim 1 is -2"},
		{[]TensorSpec{{"A", F32, RuleNone, ScaleNone, []int{1}, 0}}, []string{"config"}, `"A", want 1 to 128 bytes`},
		{[]TensorSpec{{strings.Repeat("a", 129), F32, RuleNone, ScaleNone, []int{1}, 0}}, []string{"config"}, "129 bytes long"},
		{[]TensorSpec{{"a", F16, RuleNone, ScaleNone, []int{MaxDim, MaxDim}, 0}, {"b", F16, RuleNone, ScaleNone, []int{MaxDim, MaxDim}, 0}}, []string{"config"}, "2^62"},
	} {
		_, err := NewLayout(c.tensors, c.sections...)
		require.ErrorContains(t, err, c.want)
	}
	long := ok
	long.Name = strings.Repeat("a", 128)
	_, err := NewLayout([]TensorSpec{long}, "config")
	require.NoError(t, err)
}

// begin creates a writer for one trit2 and one int8 tensor.
func begin(t *testing.T) (*Writer, string) {
	path := filepath.Join(t.TempDir(), "m.trit")
	layout, err := NewLayout([]TensorSpec{
		{"q.weight", Trit2, AbsMean, ScaleRow, []int{3, 100}, 0},
		{"norm.weight", F32, RuleNone, ScaleNone, []int{2}, 0},
	}, SectionConfig, SectionTokenizer)
	require.NoError(t, err)
	w, err := Create(path, layout)
	require.NoError(t, err)
	t.Cleanup(func() { w.Abort() })
	return w, path
}

func fill(t *testing.T, w *Writer) {
	_, err := w.TensorWriter(0).Write(make([]byte, 128))
	require.NoError(t, err)
	require.NoError(t, w.TensorWriter(0).SetScales([]float32{1, 2, 3}))
	_, err = w.TensorWriter(1).Write(make([]byte, 8))
	require.NoError(t, err)
}

func TestWriterRefuses(t *testing.T) {
	t.Run("too much data", func(t *testing.T) {
		w, _ := begin(t)
		_, err := w.TensorWriter(1).Write(make([]byte, 9))
		require.ErrorContains(t, err, "9 bytes after 0, want 8 in all")
		_, err = w.TensorWriter(1).Write(make([]byte, 8))
		require.Error(t, err, "the first error lasts")
		require.ErrorContains(t, w.Finish(), "9 bytes after 0")
	})
	t.Run("illegal code", func(t *testing.T) {
		w, _ := begin(t)
		b := make([]byte, 128)
		b[5] = 2
		_, err := w.TensorWriter(0).Write(b)
		requireRefusalIn(t, err, ClassCode, w.TensorWriter(0).Info().Offset+5)
	})
	t.Run("padding", func(t *testing.T) {
		w, _ := begin(t)
		b := make([]byte, 128)
		b[127] = 1
		_, err := w.TensorWriter(0).Write(b)
		requireRefusalIn(t, err, ClassCode, w.TensorWriter(0).Info().Offset+127)
	})
	t.Run("scales", func(t *testing.T) {
		w, _ := begin(t)
		tw := w.TensorWriter(0)
		require.ErrorContains(t, tw.SetScales([]float32{1, 2}), "2 scales, want 3")
		requireRefusalIn(t, tw.SetScales([]float32{1, 0, 1}), ClassScale, tw.Info().ScaleOffset+4)
		requireRefusalIn(t, tw.SetScales([]float32{1, 1, float32(math.Inf(1))}), ClassScale, tw.Info().ScaleOffset+8)
		require.NoError(t, tw.SetScales([]float32{1, 2, 3}))
		require.ErrorContains(t, tw.SetScales([]float32{1, 2, 3}), "second time")
		require.ErrorContains(t, w.TensorWriter(1).SetScales(nil), "want 0")
	})
	t.Run("sections", func(t *testing.T) {
		w, _ := begin(t)
		require.ErrorContains(t, w.SetSection("other", []byte("x")), "not in the layout")
		require.ErrorContains(t, w.SetSection(SectionTokenizer, nil), "0 bytes")
		requireRefusalIn(t, w.SetSection(SectionConfig, []byte(`{"a": 1}`)), ClassConfig, 5)
		require.NoError(t, w.SetSection(SectionConfig, []byte(`{"a":1}`)))
		require.ErrorContains(t, w.SetSection(SectionConfig, []byte(`{"a":1}`)), "second time")
	})
	t.Run("incomplete", func(t *testing.T) {
		for want, do := range map[string]func(w *Writer){
			"q.weight is incomplete: 100 bytes written, want 128": func(w *Writer) { w.TensorWriter(0).Write(make([]byte, 100)) },
			"q.weight has no scales":                              func(w *Writer) { w.TensorWriter(0).Write(make([]byte, 128)) },
			"sections config, tokenizer are":                      func(w *Writer) { fill(t, w) },
			"sections tokenizer are":                              func(w *Writer) { fill(t, w); w.SetSection(SectionConfig, []byte("1")) },
		} {
			w, path := begin(t)
			do(w)
			require.ErrorContains(t, w.Finish(), want)
			require.Empty(t, files(t, filepath.Dir(path)))
			require.ErrorContains(t, w.Finish(), "after Finish or Abort")
		}
	})
	t.Run("target", func(t *testing.T) {
		w, path := begin(t)
		_, err := Create(filepath.Dir(path), w.Layout())
		require.ErrorContains(t, err, "not a regular file")
		_, err = Create(filepath.Join(path, "none", "x.trit"), w.Layout())
		require.Error(t, err)
	})
}

func requireRefusalIn(t *testing.T, err error, class Class, at int64) {
	t.Helper()
	var fe *FormatError
	require.ErrorAs(t, err, &fe)
	require.Equal(t, class, fe.Class)
	require.Equal(t, at, fe.Offset)
}

// failingWriter gives an error after some calls, as a full disk does.
type failingWriter struct {
	io.WriterAt
	left int
}

var errFull = errors.New("no space left")

func (f *failingWriter) WriteAt(b []byte, off int64) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errFull
	}
	return f.WriterAt.WriteAt(b, off)
}

// TestAtomicity fails every write in turn, aborts, and demands that the old
// file is whole and nothing else is left.
func TestAtomicity(t *testing.T) {
	for fail := 0; ; fail++ {
		w, path := begin(t)
		require.NoError(t, os.WriteFile(path, []byte("old"), 0o666))
		w.out = &failingWriter{w.f, fail}
		err := func() error {
			defer w.Abort()
			if _, err := w.TensorWriter(0).Write(make([]byte, 128)); err != nil {
				return err
			}
			if err := w.TensorWriter(0).SetScales([]float32{1, 2, 3}); err != nil {
				return err
			}
			if _, err := w.TensorWriter(1).Write(make([]byte, 8)); err != nil {
				return err
			}
			require.NoError(t, w.SetSection(SectionConfig, []byte("{}")))
			require.NoError(t, w.SetSection(SectionTokenizer, []byte("{}")))
			return w.Finish()
		}()
		require.Equal(t, []string{"m.trit"}, files(t, filepath.Dir(path)))
		got, readErr := os.ReadFile(path)
		require.NoError(t, readErr)
		if err == nil {
			require.Equal(t, 6, fail, "three tensor extents, two sections, the header")
			_, err := OpenBytes(got)
			require.NoError(t, err)
			return
		}
		require.ErrorIs(t, err, errFull)
		require.Equal(t, "old", string(got))
	}
}

func TestAbort(t *testing.T) {
	w, path := begin(t)
	names := files(t, filepath.Dir(path))
	require.Len(t, names, 1)
	require.True(t, strings.HasPrefix(names[0], ".m.trit.tmp-"), names[0])
	_, err := w.TensorWriter(0).Write(make([]byte, 64))
	require.NoError(t, err)
	require.NoError(t, w.Abort())
	require.NoError(t, w.Abort())
	require.Empty(t, files(t, filepath.Dir(path)))
	_, err = w.TensorWriter(0).Write(make([]byte, 64))
	require.ErrorIs(t, err, os.ErrClosed)
}

func TestUnfinishedFileIsNotTrit(t *testing.T) {
	w, path := begin(t)
	fill(t, w)
	b, err := os.ReadFile(filepath.Join(filepath.Dir(path), files(t, filepath.Dir(path))[0]))
	require.NoError(t, err)
	_, err = OpenBytes(b)
	require.Equal(t, ClassNotTrit, ClassOf(err))
}

// TestPreview computes a section from the tensors that it accompanies.
func TestPreview(t *testing.T) {
	sources := everySource(t)
	path := filepath.Join(t.TempDir(), "p.trit")
	layout, err := NewLayout(specsOf(sources), SectionConfig, SectionSelfTest, SectionTokenizer)
	require.NoError(t, err)
	w, err := Create(path, layout)
	require.NoError(t, err)
	defer w.Abort()
	_, err = w.Preview()
	require.ErrorContains(t, err, "incomplete")
	for i, s := range sources {
		_, err := w.TensorWriter(i).Write(s.data)
		require.NoError(t, err)
		if s.scales != nil {
			require.NoError(t, w.TensorWriter(i).SetScales(s.scales))
		}
	}
	known := map[string][]byte{SectionConfig: []byte(`{"a":1}`), SectionTokenizer: []byte("tok")}
	for name, data := range known {
		require.NoError(t, w.SetSection(name, data))
	}
	p, err := w.Preview()
	require.NoError(t, err)
	requireContent(t, p, sources, known)
	requireClean(t, p)
	var config struct {
		A int `json:"a"`
	}
	require.NoError(t, p.DecodeSection(SectionConfig, &config))
	require.Equal(t, 1, config.A)
	require.ErrorIs(t, p.DecodeSection(SectionSelfTest, &config), ErrNoSection)

	require.NoError(t, w.SetSection(SectionSelfTest, []byte(`{"b":2}`)))
	require.NoError(t, w.Finish())
	requireContent(t, p, sources, known)
	require.NoError(t, p.Close())

	f, err := Open(path)
	require.NoError(t, err)
	defer f.Close()
	known[SectionSelfTest] = []byte(`{"b":2}`)
	requireContent(t, f, sources, known)
	requireClean(t, f)
	err = f.DecodeSection(SectionSelfTest, &config)
	s, _ := f.section(SectionSelfTest)
	requireRefusal(t, err, ClassConfig, s.Offset, "section self-test: value", `without the key "a"`)
}

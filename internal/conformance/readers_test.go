package conformance

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	goruntime "runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/runtime"
	"github.com/tritter-ai/tritter/testdata/vectors"
)

// TestHostileVectorsAreCheap opens every vector that is refused by its header:
// none costs more memory than a few times the file, whatever its fields claim.
func TestHostileVectorsAreCheap(t *testing.T) {
	list, err := vectors.Container()
	require.NoError(t, err)
	for _, v := range list {
		if v.Stage != vectors.Opening {
			continue
		}
		var before, after goruntime.MemStats
		goruntime.ReadMemStats(&before)
		begun := time.Now()
		_, err := format.OpenBytes(v.File)
		seconds := time.Since(begun).Seconds()
		goruntime.ReadMemStats(&after)
		require.Error(t, err, v.Name)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<10), v.Name)
		require.Less(t, seconds, 2.0, v.Name) // microseconds; this is for a loop over 2^31 elements
	}
}

// TestUnverifiedFilesAreHarmless uses every file whose header is right without
// verifying the rest, as tritter-run does: the result may be wrong, and there may
// be an error, but neither a fault nor a panic.
func TestUnverifiedFilesAreHarmless(t *testing.T) {
	list, err := vectors.Container()
	require.NoError(t, err)
	ran := 0
	for _, v := range list {
		f, err := format.OpenBytes(v.File)
		if err != nil {
			continue
		}
		m, err := runtime.LoadModel(f)
		if err != nil {
			continue
		}
		_, _ = m.Tokenizer()
		e, err := runtime.NewCPU(m, runtime.Options{Threads: 1})
		require.NoError(t, err, v.Name)
		seq := e.NewSequence()
		_, err = e.Forward(context.Background(), []runtime.Span{{Seq: seq, Tokens: []int{0, 0}, Logits: runtime.PositionLast}})
		if v.Expect == vectors.Success {
			require.NoError(t, err, v.Name)
		}
		seq.Close()
		require.NoError(t, e.Close())
		ran++
	}
	require.Greater(t, ran, 60)
}

// TestWriterWritesTheVectors gives the content of every vector whose header is
// right to package format's writer. What a reader accepts comes out with the same
// bytes; what it refuses for its values, scales or JSON is refused here already.
func TestWriterWritesTheVectors(t *testing.T) {
	list, err := vectors.Container()
	require.NoError(t, err)
	same, refused := 0, 0
	for _, v := range list {
		f, err := format.OpenBytes(v.File)
		if err != nil || v.Stage == vectors.Content {
			continue
		}
		b, err := rewrite(t, f, v.File)
		switch v.Expect {
		case vectors.Success:
			require.NoError(t, err, v.Name)
			if h := f.Header(); h.Minor > 0 || len(h.Optional) > 0 {
				continue // of a later writer
			}
			require.True(t, bytes.Equal(v.File, b), v.Name)
			same++
		case "code", "scale", "config":
			require.Error(t, err, v.Name)
			refused++
		}
	}
	require.Greater(t, same, 35)
	require.Greater(t, refused, 50)
}

// rewrite writes the content of f, whose bytes are data, as it is.
func rewrite(t *testing.T, f *format.File, data []byte) ([]byte, error) {
	h := f.Header()
	var specs []format.TensorSpec
	var names []string
	for _, i := range h.Tensors {
		specs = append(specs, format.TensorSpec{Name: i.Name, Encoding: i.Encoding, Rule: i.Rule, Granularity: i.Granularity, Dims: i.Dims, Group: i.Group})
	}
	for _, s := range h.Sections {
		names = append(names, s.Name)
	}
	layout, err := format.NewLayout(specs, names...)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "again.trit")
	w, err := format.Create(path, layout)
	require.NoError(t, err)
	defer w.Abort()
	for i, info := range h.Tensors {
		if _, err := w.TensorWriter(i).Write(data[info.Offset:][:info.Length]); err != nil {
			return nil, err
		}
		if info.ScaleLength == 0 {
			continue
		}
		scales := make([]float32, info.ScaleLength/4)
		for j := range scales {
			scales[j] = math.Float32frombits(binary.LittleEndian.Uint32(data[info.ScaleOffset+4*int64(j):]))
		}
		if err := w.TensorWriter(i).SetScales(scales); err != nil {
			return nil, err
		}
	}
	for _, s := range h.Sections {
		if err := w.SetSection(s.Name, data[s.Offset:][:s.Length]); err != nil {
			return nil, err
		}
	}
	if err := w.Finish(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

package convert_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/convert/checkpoint/safetensors"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/verify"
)

// edit changes a checkpoint in dir.
type edit func(t *testing.T, dir string)

// hostile is a checkpoint that is wrong in one way, or looks so.
type hostile struct {
	name    string
	class   string // "" is BitNetForCausalLM
	storage synth.Storage
	dtype   checkpoint.DType // "" is BF16
	shape   func(*synth.Shape)
	edit    edit
	opt     convert.Options
	want    []string // what the error says: value seen, value expected, fix; nil: it converts
}

// checkpoint writes the checkpoint into a new folder.
func (h *hostile) checkpoint(t *testing.T) string {
	t.Helper()
	s := synth.Shape{Class: "BitNetForCausalLM", Hidden: 16, Layers: 1, Heads: 2, KVHeads: 1, Intermediate: 12, Vocab: 20, Context: 16, Tied: true}
	if h.class != "" {
		s.Class = h.class
	}
	if h.shape != nil {
		h.shape(&s)
	}
	storage, dtype := synth.Online, checkpoint.BF16
	if h.storage != "" {
		storage = h.storage
	}
	if h.dtype != "" {
		dtype = h.dtype
	}
	dir := t.TempDir()
	require.NoError(t, synth.Write(dir, s, storage, dtype, 1))
	if h.edit != nil {
		h.edit(t, dir)
	}
	return dir
}

// convertError opens and converts dir into out and returns what went wrong.
func convertError(ctx context.Context, dir, out string, opt convert.Options) error {
	plan, err := convert.Open(dir, opt)
	if err != nil {
		return err
	}
	_, err = plan.Write(ctx, out, nil)
	return errors.Join(err, plan.Close())
}

// requireEmpty holds that nothing is left in dir.
func requireEmpty(t *testing.T, dir string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, list)
}

func all(edits ...edit) edit {
	return func(t *testing.T, dir string) {
		for _, e := range edits {
			e(t, dir)
		}
	}
}

// file writes a file beside the weights.
func file(name, content string) edit {
	return func(t *testing.T, dir string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
}

func remove(name string) edit {
	return func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, name))) }
}

// set replaces the value of a key of config.json, of a nested one after a dot, by
// raw JSON; "" removes the key.
func set(key, raw string) edit {
	return func(t *testing.T, dir string) {
		path := filepath.Join(dir, "config.json")
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		var top map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(data, &top))
		put := func(m map[string]json.RawMessage, key string) {
			if raw == "" {
				delete(m, key)
			} else {
				m[key] = json.RawMessage(raw)
			}
		}
		if outer, inner, nested := strings.Cut(key, "."); nested {
			var m map[string]json.RawMessage
			require.NoError(t, json.Unmarshal(top[outer], &m))
			put(m, inner)
			top[outer], err = json.Marshal(m)
			require.NoError(t, err)
		} else {
			put(top, key)
		}
		var b bytes.Buffer // by hand: the raw values need not be valid
		b.WriteString("{")
		for i, k := range slices.Sorted(maps.Keys(top)) {
			if i > 0 {
				b.WriteString(",")
			}
			name, _ := json.Marshal(k)
			b.Write(name)
			b.WriteString(":")
			b.Write(top[k])
		}
		b.WriteString("}")
		require.NoError(t, os.WriteFile(path, b.Bytes(), 0o644))
	}
}

// replace inserts text into config.json.
func replace(old, new string) edit {
	return func(t *testing.T, dir string) {
		path := filepath.Join(dir, "config.json")
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Contains(t, string(data), old)
		require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(data), old, new, 1)), 0o644))
	}
}

// stored is a tensor in memory.
type stored struct {
	dtype checkpoint.DType
	shape []int64
	data  []byte
}

// weights rewrites model.safetensors.
func weights(change func(t *testing.T, ts map[string]*stored)) edit {
	return func(t *testing.T, dir string) {
		path := filepath.Join(dir, "model.safetensors")
		r, err := safetensors.Open(path)
		require.NoError(t, err)
		ts := map[string]*stored{}
		for _, x := range r.Tensors() {
			data := make([]byte, x.Size)
			_, err := x.ReadAt(data, 0)
			require.NoError(t, err)
			ts[x.Name] = &stored{x.DType, slices.Clone(x.Shape), data}
		}
		require.NoError(t, r.Close())
		change(t, ts)
		var list []safetensors.WriteTensor
		for name, x := range ts {
			list = append(list, safetensors.WriteTensor{Name: name, DType: x.dtype, Shape: x.shape, Data: bytes.NewReader(x.data)})
		}
		f, err := os.Create(path)
		require.NoError(t, err)
		require.NoError(t, safetensors.Write(f, list, nil))
		require.NoError(t, f.Close())
	}
}

// drop removes a tensor.
func drop(name string) edit {
	return weights(func(t *testing.T, ts map[string]*stored) {
		require.Contains(t, ts, name)
		delete(ts, name)
	})
}

// put stores a tensor of zeros.
func put(name string, dtype checkpoint.DType, shape ...int64) edit {
	return weights(func(t *testing.T, ts map[string]*stored) {
		n := int64(dtype.Size())
		for _, d := range shape {
			n *= d
		}
		ts[name] = &stored{dtype, shape, make([]byte, n)}
	})
}

// poke overwrites bytes of a tensor, counted from its end when at is negative.
func poke(name string, at int, b ...byte) edit {
	return weights(func(t *testing.T, ts map[string]*stored) {
		require.Contains(t, ts, name)
		data := ts[name].data
		if at < 0 {
			at += len(data)
		}
		copy(data[at:], b)
	})
}

// pokeFloat overwrites an element of an F32 tensor.
func pokeFloat(name string, i int, v float64) edit {
	return poke(name, 4*i, binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(v)))...)
}

const (
	qProj = "model.layers.0.self_attn.q_proj"
	embed = "model.embed_tokens.weight"
)

var (
	nan16 = []byte{0xc0, 0x7f} // BF16
	inf16 = []byte{0x80, 0xff} // BF16, negative
)

func TestProbe(t *testing.T) {
	for _, h := range rows() {
		t.Run(h.name, func(t *testing.T) {
			dir := h.checkpoint(t)
			out := t.TempDir()
			err := convertError(context.Background(), dir, filepath.Join(out, "m.trit"), h.opt)
			l, _ := os.ReadDir(out)
			t.Logf("ERR %v [left %d]", err, len(l))
			if err == nil {
				r, err := verify.File(context.Background(), filepath.Join(out, "m.trit"), verify.Options{Run: true, Source: dir}, nil)
				t.Logf("VERIFY %v %v", err, r.Findings)
			}
			_ = format.Open
			_ = io.EOF
		})
	}
}

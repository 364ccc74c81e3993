package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/quantize"
)

// tiny is a model of one layer whose file is at most 16 kB.
var tiny = synth.Shape{Class: "BitNetForCausalLM", Hidden: 16, Layers: 1, Heads: 2, KVHeads: 1, Intermediate: 12, Vocab: 20, Context: 16, Tied: true}

// make writes a checkpoint and its .trit file.
func makeFile(t *testing.T, seed uint64, opt convert.Options) (source, path string) {
	t.Helper()
	source = t.TempDir()
	require.NoError(t, synth.Write(source, tiny, synth.Online, checkpoint.F16, seed))
	plan, err := convert.Open(source, opt)
	require.NoError(t, err)
	defer plan.Close()
	path = filepath.Join(t.TempDir(), "tiny.trit")
	_, err = plan.Write(context.Background(), path, nil)
	require.NoError(t, err)
	return source, path
}

func check(t *testing.T, path string, opt Options) *Report {
	t.Helper()
	r, err := File(context.Background(), path, opt, nil)
	require.NoError(t, err)
	return r
}

// TestEveryCutAndFlipIsRefused: no damage of a file goes unnoticed, and none
// makes a reader crash.
func TestEveryCutAndFlipIsRefused(t *testing.T) {
	_, path := makeFile(t, 1, convert.Options{})
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	require.LessOrEqual(t, len(good), 16<<10)
	bytesReport := func(data []byte) *Report {
		v := newVerifier(context.Background(), "tiny.trit", Options{Workers: 1}, nil)
		require.NoError(t, v.all(func() (*format.File, error) { return format.OpenBytes(data) }))
		return v.report
	}
	require.True(t, bytesReport(good).OK())
	for n := range good {
		require.False(t, bytesReport(good[:n:n]).OK(), "cut to %d bytes", n)
	}
	require.False(t, bytesReport(append(bytes.Clone(good), 0)).OK(), "a byte more")
	step := 1
	if testing.Short() {
		step = 7
	}
	for at := 0; at < len(good); at += step {
		for _, flip := range []byte{1 << (at % 8), 0xff} {
			bad := bytes.Clone(good)
			bad[at] ^= flip
			if at == 10 && flip == 1<<2 {
				continue // a minor version is free to change; the header's hash covers it, below
			}
			v := newVerifier(context.Background(), "tiny.trit", Options{Workers: 1}, nil)
			err := v.all(func() (*format.File, error) { return format.OpenBytes(bad) })
			require.True(t, err != nil || !v.report.OK(), "byte %d ^ %02x", at, flip)
		}
	}
}

// rewrite copies a file with sections replaced.
func rewrite(t *testing.T, path string, sections map[string]func([]byte) []byte) string {
	t.Helper()
	return rewriteTensors(t, path, sections, nil)
}

// rewriteTensors also changes the data of tensors.
func rewriteTensors(t *testing.T, path string, sections map[string]func([]byte) []byte, tensors map[string]func([]byte)) string {
	t.Helper()
	f, err := format.Open(path)
	require.NoError(t, err)
	defer f.Close()
	h := f.Header()
	var specs []format.TensorSpec
	for _, i := range h.Tensors {
		specs = append(specs, format.TensorSpec{Name: i.Name, Encoding: i.Encoding, Rule: i.Rule, Granularity: i.Granularity, Dims: i.Dims, Group: i.Group})
	}
	var names []string
	content := map[string][]byte{}
	for _, s := range h.Sections {
		data, err := f.Section(s.Name)
		require.NoError(t, err)
		if change, ok := sections[s.Name]; ok {
			data = change(data)
		}
		if data != nil {
			names = append(names, s.Name)
			content[s.Name] = data
		}
	}
	layout, err := format.NewLayout(specs, names...)
	require.NoError(t, err)
	out := filepath.Join(t.TempDir(), "rewritten.trit")
	w, err := format.Create(out, layout)
	require.NoError(t, err)
	for i, info := range h.Tensors {
		tensor, _ := f.Tensor(info.Name)
		data, err := tensor.Data()
		require.NoError(t, err)
		if change, ok := tensors[info.Name]; ok {
			data = bytes.Clone(data)
			change(data)
		}
		_, err = w.TensorWriter(i).Write(data)
		require.NoError(t, err)
		scales, err := tensor.Scales()
		require.NoError(t, err)
		if scales != nil {
			require.NoError(t, w.TensorWriter(i).SetScales(scales))
		}
	}
	for name, data := range content {
		require.NoError(t, w.SetSection(name, data))
	}
	require.NoError(t, w.Finish())
	return out
}

func replace(old, new string) func([]byte) []byte {
	return func(b []byte) []byte {
		out := strings.Replace(string(b), old, new, 1)
		if out == string(b) {
			panic("nothing to replace: " + old)
		}
		return []byte(out)
	}
}

// TestFindings: files that are whole, with right hashes, and wrong.
func TestFindings(t *testing.T) {
	source, path := makeFile(t, 1, convert.Options{Rule: "absmean-row"})
	require.Empty(t, check(t, path, Options{Run: true, Source: source}).Findings)
	for name, c := range map[string]struct {
		section string
		change  func([]byte) []byte
		check   string
		want    string
	}{
		"an activation that nobody knows":  {"config", replace(`"relu2"`, `"gelu2"`), "config", `activation is "gelu2", want one of ["silu" "relu2"]`},
		"another activation":               {"config", replace(`"relu2"`, `"silu"`), "self-test", "logit 0"},
		"a layer too many":                 {"config", replace(`"num_layers":1`, `"num_layers":2`), "config", "tensor layers.1.attn_norm.weight is no such tensor"},
		"a norm forgotten":                 {"config", replace(`"norms":["attn","attn_sub",`, `"norms":["attn",`), "config", "layers.0.attn_sub_norm.weight is a tensor that the config does not imply"},
		"heads that do not divide":         {"config", replace(`"num_kv_heads":1`, `"num_kv_heads":3`), "config", "num_heads (2) must be a multiple of num_kv_heads (3)"},
		"an unknown key":                   {"config", replace(`{"activation":`, `{"acceleration":1,"activation":`), "config", "acceleration"},
		"an eos id outside the vocabulary": {"generation", replace(`[2]`, `[99]`), "config", "eos id 99"},
		"no config":                        {"generation", replace(`"eos"`, `"oes"`), "config", "without the key"},
		"provenance of another tensor":     {"provenance", replace(`"target":"layers.0.q.weight"`, `"target":"layers.0.x.weight"`), "provenance", "layers.0.x.weight"},
		"a hash that is none":              {"provenance", replace(`"sha256":"`, `"sha256":"x`), "provenance", "want 64 lower-case hex digits"},
		"another logit":                    {"self-test", replace(`"bits":1`, `"bits":2`), "self-test", "logit 0 in order"},
		"a prompt outside the vocabulary":  {"self-test", replace(`"prompt":[1,`, `"prompt":[20,`), "config", "prompt id 20"},
	} {
		t.Run(name, func(t *testing.T) {
			r := check(t, rewrite(t, path, map[string]func([]byte) []byte{c.section: c.change}), Options{Run: true})
			require.False(t, r.OK())
			require.Equal(t, c.check, r.Findings[0].Check, "%v", r.Findings)
			require.Contains(t, r.Findings[0].Message, c.want)
		})
	}
	bare := check(t, rewrite(t, path, map[string]func([]byte) []byte{
		"self-test":  func([]byte) []byte { return nil },
		"provenance": func([]byte) []byte { return nil },
		"generation": func([]byte) []byte { return nil },
	}), Options{Run: true})
	require.Empty(t, bare.Findings, "these sections are optional")
}

// TestSourceFindings: another checkpoint, and other options, are found out.
func TestSourceFindings(t *testing.T) {
	_, path := makeFile(t, 1, convert.Options{})
	other, _ := makeFile(t, 2, convert.Options{})
	r := check(t, path, Options{Source: other})
	var hash, byteDiffers, scale bool
	for _, f := range r.Findings {
		require.Equal(t, "source", f.Check)
		hash = hash || strings.Contains(f.Message, "this is another checkpoint")
		byteDiffers = byteDiffers || f.Tensor == "layers.0.q.weight" && strings.Contains(f.Message, "bytes of the tensor differ") && f.Offset > 0
		scale = scale || strings.Contains(f.Message, "scale 0 is")
	}
	require.True(t, hash && byteDiffers && scale, "%v", r.Findings)

	// The provenance says by row, the tensors are by tensor.
	lying := rewrite(t, path, map[string]func([]byte) []byte{"provenance": replace(`"options":{}`, `"options":{"rule":"absmean-row"}`)})
	source, _ := makeFile(t, 1, convert.Options{})
	r = check(t, lying, Options{Source: source})
	require.False(t, r.OK())
	require.Contains(t, r.Findings[0].Message, "the source gives trit2 absmean row")

	_, err := File(context.Background(), path, Options{Source: t.TempDir()}, nil)
	require.ErrorContains(t, err, "no weights")
	_, err = File(context.Background(), filepath.Join(t.TempDir(), "none.trit"), Options{}, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = File(ended, path, Options{}, nil)
	require.ErrorIs(t, err, context.Canceled)
}

// TestSymmetricIsTheLongWay: the answer from counts is that of dequantizing,
// quantizing and comparing.
func TestSymmetricIsTheLongWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "n")
		trits := rapid.SliceOfN(rapid.Int8Range(-1, 1), n, n).Draw(t, "trits")
		scale := float32(math.Exp(rapid.Float64Range(-25, 10).Draw(t, "log scale"))) // some below the least scale
		w, again := make([]float32, n), make([]int8, n)
		quantize.Dequantize(w, trits, scale)
		quantize.Trits(again, w, quantize.AbsMean(quantize.SumAbs(w), int64(n)))
		nonzero, same := int64(0), true
		for i, v := range trits {
			if v != 0 {
				nonzero++
			}
			same = same && again[i] == v
		}
		require.Equal(t, same, Symmetric(scale, nonzero, int64(n)))
	})
}

// TestAsymmetricScaleIsFound: a scale that absmean cannot give.
func TestAsymmetricScaleIsFound(t *testing.T) {
	for _, e := range []format.Encoding{format.Trit2, format.Trit3} {
		for _, g := range []format.Granularity{format.ScaleTensor, format.ScaleRow, format.ScaleGroup} {
			spec := format.TensorSpec{Name: "w", Encoding: e, Rule: format.AbsMean, Granularity: g, Dims: []int{5, 300}}
			scales := make([]float32, map[format.Granularity]int{format.ScaleTensor: 1, format.ScaleRow: 5, format.ScaleGroup: 15}[g])
			if g == format.ScaleGroup {
				spec.Group = 128
			}
			for i := range scales {
				scales[i] = 0.5
			}
			scales[len(scales)-1] = 1e-7
			layout, err := format.NewLayout([]format.TensorSpec{spec}, "config")
			require.NoError(t, err)
			path := filepath.Join(t.TempDir(), "w.trit")
			w, err := format.Create(path, layout)
			require.NoError(t, err)
			pack, size := quantize.Pack2, quantize.TileRowBytes2(300)
			if e == format.Trit3 {
				pack, size = quantize.Pack3, quantize.TileRowBytes3(300)
			}
			row := make([]int8, 300)
			row[299], row[130] = -1, 1
			buf := make([]byte, size)
			for _, rows := range [][][]int8{{row, row, row, row}, {row}} {
				pack(buf, rows, 300)
				_, err = w.TensorWriter(0).Write(buf)
				require.NoError(t, err)
			}
			require.NoError(t, w.TensorWriter(0).SetScales(scales))
			require.NoError(t, w.SetSection("config", []byte("{}")))
			require.NoError(t, w.Finish())
			found := ""
			for _, f := range check(t, path, Options{}).Findings {
				if f.Check == "symmetry" {
					found += f.Message
				}
			}
			require.Contains(t, found, "which the absmean rule cannot have given", "%v %v", e, g)
			require.Contains(t, found, "(1 of ", "%v %v", e, g)
		}
	}
}

func TestReportIsJSON(t *testing.T) {
	_, path := makeFile(t, 1, convert.Options{})
	r := check(t, path, Options{Run: true})
	data, err := json.Marshal(r)
	require.NoError(t, err)
	require.Contains(t, string(data), `"findings":[]`)
	names := []string{}
	for _, c := range r.Checks {
		names = append(names, c.Name+" "+string(c.Status))
	}
	require.Equal(t, []string{"structure passed", "payload passed", "config passed", "tokenizer skipped", "codebooks skipped", "symmetry passed", "provenance passed", "self-test passed", "source skipped"}, names)
}

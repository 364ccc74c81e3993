package checkpoint_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/convert/checkpoint/safetensors"
)

const fixtures = "../../testdata/fixtures"

// tensors returns a safetensors file whose one-byte tensors have these names.
func tensors(t *testing.T, names ...string) string {
	var list []safetensors.WriteTensor
	for _, name := range names {
		list = append(list, safetensors.WriteTensor{Name: name, DType: checkpoint.U8, Shape: []int64{1}, Data: strings.NewReader("x")})
	}
	var b bytes.Buffer
	require.NoError(t, safetensors.Write(&b, list, nil))
	return b.String()
}

// folder writes files, by name, to a new folder.
func folder(t *testing.T, files map[string]string) string {
	dir := t.TempDir()
	for name, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	return dir
}

func TestOpenFixtures(t *testing.T) {
	for name, want := range map[string]struct {
		tensors, files int
		generation     bool
	}{
		"bitnet-online":          {24, 1, true},
		"bitnet-packed":          {38, 1, false},
		"llama-bitlinear-packed": {35, 1, false},
		"llama-dense-sharded":    {21, 9, true},
	} {
		dir := filepath.Join(fixtures, name)
		file := filepath.Join(dir, "model.safetensors")
		if want.files > 1 {
			file += ".index.json"
		}
		// The folder and its file are the same checkpoint.
		for _, path := range []string{dir, file} {
			t.Run(path, func(t *testing.T) {
				d, err := checkpoint.Open(path)
				require.NoError(t, err)
				require.Equal(t, dir, d.Path)
				require.Equal(t, want.tensors, len(d.Weights.Tensors()))
				require.Len(t, d.Weights.Files(), want.files)
				require.Equal(t, map[string]string{"format": "pt"}, d.Weights.Metadata())
				for name, got := range map[string][]byte{
					"config.json": d.Config, "tokenizer.json": d.Tokenizer, "tokenizer_config.json": d.TokenizerConfig,
				} {
					data, err := os.ReadFile(filepath.Join(dir, name))
					require.NoError(t, err)
					require.Equal(t, data, got)
				}
				require.Equal(t, want.generation, d.GenerationConfig != nil)
				tn, ok := d.Weights.Lookup("model.norm.weight")
				require.True(t, ok)
				require.Equal(t, []int64{128}, tn.Shape)
				require.NoError(t, d.Close())
				_, err = tn.ReadAt(make([]byte, 1), 0)
				require.ErrorIs(t, err, os.ErrClosed)
			})
		}
	}
	d, err := checkpoint.Open(filepath.Join(fixtures, "llama-dense-sharded", "model-00003-of-00009.safetensors"))
	require.NoError(t, err)
	require.Len(t, d.Weights.Tensors(), 1)
	require.NotNil(t, d.Config)
	require.NoError(t, d.Close())
}

func TestOpenFolder(t *testing.T) {
	one, two := tensors(t, "a"), tensors(t, "b")
	legacy, err := os.ReadFile(filepath.Join(fixtures, "torch-pickles", "legacy-bf16.pth"))
	require.NoError(t, err)
	pt := string(legacy) // tensor w
	const weightMap = `{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}`
	const lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n"
	var format *checkpoint.FormatError
	var unsupported *checkpoint.UnsupportedError
	for _, c := range []struct {
		name  string
		files map[string]string
		open  string   // file to open instead of the folder
		as    any      // error type, or nil
		err   []string // parts of the error; none: opens
		from  []string // files of the weights
	}{
		{name: "alone, without configuration", files: map[string]string{"model.safetensors": one}, from: []string{"model.safetensors"}},
		{name: "another name", files: map[string]string{"weights.safetensors": one, "config.json": "{}"}, from: []string{"weights.safetensors"}},
		{name: "the only shard", files: map[string]string{"model-00001-of-00001.safetensors": one}, from: []string{"model-00001-of-00001.safetensors"}},
		{name: "another index", files: map[string]string{"x.safetensors.index.json": `{"weight_map":{"a":"x.safetensors"}}`, "x.safetensors": one}, from: []string{"x.safetensors"}},
		{name: "training state beside", files: map[string]string{"model.safetensors": one, "training_args.bin": "", "optimizer.pt": "", "rng_state_0.pth": "", "scheduler.pt": ""}, from: []string{"model.safetensors"}},
		{name: "file among several", open: "b.safetensors", files: map[string]string{"a.safetensors": one, "b.safetensors": two, "c.bin": ""}, from: []string{"b.safetensors"}},
		{name: "file with a leftover beside", open: "b.safetensors", files: map[string]string{"b.safetensors": two, "a.safetensors.part": ""}, from: []string{"b.safetensors"}},

		{name: "PyTorch", files: map[string]string{"pytorch_model.bin": pt, "training_args.bin": "", "config.json": "{}"}, from: []string{"pytorch_model.bin"}},
		{name: "PyTorch, .pt", files: map[string]string{"checkpoint.pt": pt}, from: []string{"checkpoint.pt"}},
		{name: "PyTorch, the only shard", files: map[string]string{"pytorch_model-00001-of-00001.bin": pt}, from: []string{"pytorch_model-00001-of-00001.bin"}},
		{name: "PyTorch index", files: map[string]string{"pytorch_model.bin.index.json": `{"weight_map":{"w":"pytorch_model-00001-of-00001.bin"}}`, "pytorch_model-00001-of-00001.bin": pt}, from: []string{"pytorch_model-00001-of-00001.bin"}},
		{name: "PyTorch index by name", open: "pytorch_model.bin.index.json", files: map[string]string{"pytorch_model.bin.index.json": `{"weight_map":{"w":"a.bin"}}`, "a.bin": pt, "model.safetensors": one}, from: []string{"a.bin"}},
		{name: "PyTorch file among several", open: "MODEL.PT", files: map[string]string{"MODEL.PT": pt, "model.safetensors": one}, from: []string{"MODEL.PT"}},

		{name: "empty folder", err: []string{"no weights: looked for model.safetensors, model.safetensors.index.json"}},
		{name: "no weights", files: map[string]string{"config.json": "{}", "training_args.bin": ""}, err: []string{"no weights: looked for model.safetensors"}},
		{name: "two files", files: map[string]string{"model.safetensors": one, "other.safetensors": two}, err: []string{"several sets of weights: model.safetensors, other.safetensors; pass the FILE"}},
		{name: "file and shards", files: map[string]string{"model.safetensors": one, "model.safetensors.index.json": weightMap, "model-00001-of-00002.safetensors": one, "model-00002-of-00002.safetensors": two}, err: []string{"several sets of weights: model.safetensors.index.json, model.safetensors; pass the FILE"}},
		{name: "file and PyTorch", files: map[string]string{"model.safetensors": one, "checkpoint.pt": "", "packed.pt": ""}, err: []string{"several sets of weights: model.safetensors, checkpoint.pt, packed.pt; pass the FILE"}},
		{name: "file and GGUF", files: map[string]string{"model.safetensors": one, "ggml-model.gguf": ""}, err: []string{"several sets of weights: model.safetensors, ggml-model.gguf; pass the FILE"}},
		{name: "shards without index", files: map[string]string{"model-00001-of-00002.safetensors": one, "model-00002-of-00002.safetensors": two}, err: []string{"shards without their index: model-00001-of-00002.safetensors, model-00002-of-00002.safetensors; download model.safetensors.index.json too"}},
		{name: "one of ten shards without index", files: map[string]string{"model-00001-of-00010.safetensors": one}, err: []string{"shards without their index: model-00001-of-00010.safetensors"}},
		{name: "shard missing", files: map[string]string{"model.safetensors.index.json": weightMap, "model-00001-of-00002.safetensors": one}, as: &format, err: []string{`model.safetensors.index.json: tensor "b": got no file "model-00002-of-00002.safetensors", want the shard beside the index; download the missing shard`}},
		{name: "shard of another set", files: map[string]string{"model.safetensors.index.json": weightMap, "model-00001-of-00002.safetensors": one, "model-00002-of-00002.safetensors": two, "model-00003-of-00003.safetensors": two}, err: []string{"several sets of weights: model.safetensors.index.json, model-00003-of-00003.safetensors"}},
		{name: "index damaged", files: map[string]string{"model.safetensors.index.json": "{"}, as: &format, err: []string{"model.safetensors.index.json: offset 1: index"}},

		{name: "PyTorch shards without index", files: map[string]string{"pytorch_model-00001-of-00002.bin": pt, "pytorch_model-00002-of-00002.bin": pt}, err: []string{"shards without their index: pytorch_model-00001-of-00002.bin, pytorch_model-00002-of-00002.bin; download pytorch_model.bin.index.json too"}},
		{name: "two PyTorch files", files: map[string]string{"model.pt": pt, "model.pth": pt}, err: []string{"several sets of weights: model.pt, model.pth; pass the FILE"}},
		{name: "PyTorch file and index", files: map[string]string{"pytorch_model.bin": pt, "pytorch_model.bin.index.json": `{"weight_map":{"w":"pytorch_model-00001-of-00001.bin"}}`, "pytorch_model-00001-of-00001.bin": pt}, err: []string{"several sets of weights: pytorch_model.bin.index.json, pytorch_model.bin; pass the FILE"}},
		{name: "both indexes", files: map[string]string{"model.safetensors.index.json": weightMap, "pytorch_model.bin.index.json": weightMap}, err: []string{"several sets of weights: model.safetensors.index.json, pytorch_model.bin.index.json; pass the FILE"}},
		{name: "many PyTorch files", files: map[string]string{"1.bin": pt, "2.bin": pt, "3.bin": pt, "4.bin": pt, "5.bin": pt, "6.bin": pt, "7.bin": pt, "8.bin": pt, "9.pth": pt}, err: []string{"8.bin and 1 more"}},
		{name: "empty PyTorch file", files: map[string]string{"model.pth": ""}, as: &format, err: []string{"model.pth: offset 0: file length: got 0 bytes"}},
		{name: "PyTorch index damaged", files: map[string]string{"pytorch_model.bin.index.json": "{"}, as: &format, err: []string{"pytorch_model.bin.index.json: offset 1: index"}},
		{name: "GGUF only", files: map[string]string{"model.GGUF": ""}, as: &format, err: []string{"model.GGUF: "}},
		{name: "not weights", open: "config.json", files: map[string]string{"config.json": "{}"}, err: []string{"config.json: not a file of weights: pass a .safetensors, .bin, .pt, .pth or .gguf file, a *.safetensors.index.json or *.bin.index.json, or their folder"}},

		{name: "interrupted", files: map[string]string{"model.safetensors.incomplete": ""}, as: &format, err: []string{"model.safetensors.incomplete: download: got the leftover of an interrupted one"}},
		{name: "interrupted beside", files: map[string]string{"model.safetensors": one, "config.json.part": ""}, as: &format, err: []string{"config.json.part", "delete this file if"}},
		{name: "interrupted file", open: "model.safetensors.part", files: map[string]string{"model.safetensors.part": ""}, as: &format, err: []string{"model.safetensors.part", "finish the download"}},
		{name: "truncated", files: map[string]string{"model.safetensors": one[:len(one)-1]}, as: &format, err: []string{"model.safetensors: offset 64: file length: got 64 bytes, want 1 more", "interrupted"}},
		{name: "LFS weights", files: map[string]string{"model.safetensors": lfs}, as: &format, err: []string{"model.safetensors", "git lfs pull"}},
		{name: "LFS index", files: map[string]string{"model.safetensors.index.json": lfs}, as: &format, err: []string{"model.safetensors.index.json", "git lfs pull"}},
		{name: "LFS tokenizer", files: map[string]string{"model.safetensors": one, "tokenizer.json": lfs}, as: &format, err: []string{"tokenizer.json", "git lfs pull"}},
		{name: "web page", files: map[string]string{"model.safetensors": one, "config.json": "<!doctype html>"}, as: &format, err: []string{"config.json", "a web page"}},
		{name: "long configuration", files: map[string]string{"model.safetensors": one, "config.json": strings.Repeat(" ", checkpoint.MaxConfig+1)}, as: &unsupported, err: []string{"config.json: file length: 16777217 bytes is not supported, want at most 16777216"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t, c.files)
			d, err := checkpoint.Open(filepath.Join(dir, c.open))
			if c.err == nil {
				require.NoError(t, err)
				require.Equal(t, dir, d.Path)
				require.Equal(t, c.from, d.Weights.Files())
				require.Equal(t, c.files["config.json"] != "", d.Config != nil)
				require.Nil(t, d.Tokenizer)
				require.NoError(t, d.Close())
				return
			}
			require.Error(t, err)
			require.Nil(t, d)
			for _, part := range c.err {
				require.ErrorContains(t, err, part)
			}
			if c.as != nil {
				require.ErrorAs(t, err, c.as)
			} else {
				require.False(t, errors.As(err, &format) || errors.As(err, &unsupported))
			}
		})
	}
	_, err = checkpoint.Open(filepath.Join(t.TempDir(), "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// The shards of two containers hold the same model.
func TestOpenPyTorch(t *testing.T) {
	for _, path := range []string{"llama-dense-bin", "llama-dense-bin/pytorch_model.bin.index.json"} {
		d, err := checkpoint.Open(filepath.Join(fixtures, path))
		require.NoError(t, err)
		require.Equal(t, filepath.Join(fixtures, "llama-dense-bin"), d.Path)
		require.NotNil(t, d.Config)
		require.NotNil(t, d.Tokenizer)
		require.Equal(t, []string{"pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"}, d.Weights.Files())
		want, err := checkpoint.Open(filepath.Join(fixtures, "llama-dense-sharded"))
		require.NoError(t, err)
		require.Len(t, d.Weights.Tensors(), len(want.Weights.Tensors()))
		for _, w := range want.Weights.Tensors() {
			g, ok := d.Weights.Lookup(w.Name)
			require.True(t, ok, w.Name)
			require.Equal(t, w.DType, g.DType)
			require.Equal(t, w.Shape, g.Shape)
			a, b := make([]byte, w.Size), make([]byte, g.Size)
			_, err := w.ReadAt(a, 0)
			require.NoError(t, err)
			_, err = g.ReadAt(b, 0)
			require.NoError(t, err)
			require.Equal(t, a, b, w.Name)
		}
		require.NoError(t, d.Close())
		require.NoError(t, want.Close())
	}
	d, err := checkpoint.Open(filepath.Join(fixtures, "tritter", "checkpoint.pt"))
	require.NoError(t, err)
	require.Equal(t, "128", d.Weights.Metadata()["hidden_size"])
	require.NoError(t, d.Close())
}

// A folder in the place of a file is an error, not a checkpoint without it.
func TestOpenFolderForFile(t *testing.T) {
	dir := folder(t, map[string]string{"model.safetensors": tensors(t, "a")})
	require.NoError(t, os.Mkdir(filepath.Join(dir, "config.json"), 0o700))
	_, err := checkpoint.Open(dir)
	require.ErrorContains(t, err, "want a regular file")
}

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

		{name: "PyTorch only", files: map[string]string{"pytorch_model-00001-of-00002.bin": "", "pytorch_model-00002-of-00002.bin": "", "pytorch_model.bin.index.json": "{}"}, as: &unsupported, err: []string{"weights: pytorch_model-00001-of-00002.bin, pytorch_model-00002-of-00002.bin, pytorch_model.bin.index.json is not supported, want safetensors; PyTorch files cannot be read: convert the checkpoint to safetensors first"}},
		{name: "GGUF only", files: map[string]string{"model.GGUF": ""}, as: &unsupported, err: []string{"model.GGUF is not supported, want safetensors; GGUF files"}},
		{name: "many PyTorch files", files: map[string]string{"1.bin": "", "2.bin": "", "3.bin": "", "4.bin": "", "5.bin": "", "6.bin": "", "7.bin": "", "8.bin": "", "9.pth": ""}, as: &unsupported, err: []string{"8.bin and 1 more"}},
		{name: "PyTorch file", open: "model.pth", files: map[string]string{"model.pth": ""}, as: &unsupported, err: []string{"model.pth: weights: model.pth is not supported"}},
		{name: "PyTorch index", open: "pytorch_model.bin.index.json", files: map[string]string{"pytorch_model.bin.index.json": ""}, as: &unsupported, err: []string{"PyTorch files cannot be read"}},
		{name: "not weights", open: "config.json", files: map[string]string{"config.json": "{}"}, err: []string{"config.json: not a file of weights: pass a .safetensors file, a *.safetensors.index.json, or their folder"}},

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
	_, err := checkpoint.Open(filepath.Join(t.TempDir(), "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// A folder in the place of a file is an error, not a checkpoint without it.
func TestOpenFolderForFile(t *testing.T) {
	dir := folder(t, map[string]string{"model.safetensors": tensors(t, "a")})
	require.NoError(t, os.Mkdir(filepath.Join(dir, "config.json"), 0o700))
	_, err := checkpoint.Open(dir)
	require.ErrorContains(t, err, "want a regular file")
}

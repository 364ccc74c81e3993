package checkpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tritter-ai/tritter/convert/checkpoint/safetensors"
	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// A kind is what the name of a file says about it.
type kind int

const (
	other    kind = iota // nothing to do with weights
	single               // a safetensors file
	index                // the index of safetensors shards
	foreign              // weights of a container that is not read
	leftover             // what an interrupted download leaves behind
)

const indexSuffix = ".safetensors.index.json"

// companions are the beginnings of names that look like weights by their
// extension and hold something else: training state, tokenizers.
var companions = []string{"training_args", "optimizer", "scheduler", "scaler", "rng_state", "tokenizer"}

func kindOf(name string) kind {
	lower := strings.ToLower(name)
	switch filepath.Ext(lower) {
	case ".incomplete", ".part", ".crdownload", ".aria2":
		return leftover
	case ".safetensors":
		return single
	case ".bin", ".pt", ".pth", ".gguf":
		for _, c := range companions {
			if strings.HasPrefix(lower, c) {
				return other
			}
		}
		return foreign
	}
	switch {
	case strings.HasSuffix(lower, indexSuffix):
		return index
	case strings.HasSuffix(lower, ".bin.index.json"):
		return foreign
	}
	return other
}

// openFile opens the weights that the user named.
func openFile(path string) (Source, error) {
	switch kindOf(filepath.Base(path)) {
	case single:
		return source(safetensors.Open(path))
	case index:
		ix, err := safetensors.ReadIndex(path)
		if err != nil {
			return nil, err
		}
		return source(ix.Open())
	case foreign:
		return nil, unsupported(filepath.Base(path), []string{filepath.Base(path)})
	case leftover:
		return nil, interrupted(filepath.Base(path))
	}
	return nil, fmt.Errorf("%s: not a file of weights: pass a .safetensors file, a %s, or their folder", path, "*"+indexSuffix)
}

// openFolder finds the one set of weights in the folder dir and opens it.
func openFolder(dir string) (Source, error) {
	listing, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := map[kind][]string{}
	for _, e := range listing {
		if !e.IsDir() {
			k := kindOf(e.Name())
			names[k] = append(names[k], e.Name())
		}
	}
	if len(names[leftover]) > 0 {
		return nil, interrupted(names[leftover][0])
	}
	// A shard belongs to the set of its index and is not one by itself.
	loose := names[single]
	var indexes []*safetensors.Index
	for _, name := range names[index] {
		ix, err := safetensors.ReadIndex(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		indexes = append(indexes, ix)
		shards := ix.Shards()
		loose = slices.DeleteFunc(loose, func(name string) bool {
			_, ok := slices.BinarySearch(shards, name)
			return ok
		})
	}
	if slices.ContainsFunc(loose, shardName.MatchString) && len(indexes) == 0 {
		return nil, fmt.Errorf("%s: shards without their index: %s; download model%s too, or pass the FILE to use", dir, list(loose), indexSuffix)
	}
	readable := slices.Concat(names[index], loose)
	if len(readable)+min(len(names[foreign]), 1) > 1 {
		return nil, several(dir, slices.Concat(readable, names[foreign]))
	}
	switch {
	case len(indexes) == 1:
		return source(indexes[0].Open())
	case len(loose) == 1:
		return source(safetensors.Open(filepath.Join(dir, loose[0])))
	case len(names[foreign]) > 0:
		return nil, unsupported(dir, names[foreign])
	}
	return nil, fmt.Errorf("%s: no weights: looked for model.safetensors, model%s with its shards, or one other .safetensors file; is this the folder of a checkpoint?", dir, indexSuffix)
}

// source keeps a failed open from becoming a Source that holds a nil pointer.
func source(r *safetensors.Reader, err error) (Source, error) {
	if err != nil {
		return nil, err
	}
	return r, nil
}

func several(dir string, sets []string) error {
	return fmt.Errorf("%s: several sets of weights: %s; pass the FILE to use instead of the folder", dir, list(sets))
}

// shardName matches model-00002-of-00009.safetensors, but not the only shard
// of a checkpoint that has one.
var shardName = regexp.MustCompile(`-[0-9]+-of-0*([2-9]|[1-9][0-9]+)\.safetensors$`)

func unsupported(where string, names []string) error {
	what := "PyTorch files"
	if strings.HasSuffix(strings.ToLower(names[0]), ".gguf") {
		what = "GGUF files"
	}
	return &UnsupportedError{
		File: where, Offset: tensor.NoOffset, Field: "weights", Got: list(names), Want: "safetensors",
		Hint: what + " cannot be read: convert the checkpoint to safetensors first",
	}
}

func interrupted(name string) error {
	return &FormatError{
		File: name, Offset: tensor.NoOffset, Field: "download", Got: "the leftover of an interrupted one", Want: "complete files",
		Hint: "finish the download, or delete this file if the checkpoint is complete",
	}
}

// list names files for a message, the first eight of them.
func list(names []string) string {
	const most = 8
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

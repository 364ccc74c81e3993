package checkpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
	"github.com/tritter-ai/tritter/convert/checkpoint/safetensors"
	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
	"github.com/tritter-ai/tritter/convert/checkpoint/torch"
)

// A kind is what the name of a file says about it.
type kind int

const (
	other      kind = iota // nothing to do with weights
	single                 // a safetensors file
	index                  // the index of safetensors shards
	torchFile              // a PyTorch file
	torchIndex             // the index of PyTorch shards
	ggufFile               // a GGUF file
	leftover               // what an interrupted download leaves behind
)

const (
	indexSuffix      = ".safetensors.index.json"
	torchIndexSuffix = ".bin.index.json"
)

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
	case ".gguf":
		return ggufFile
	case ".bin", ".pt", ".pth":
		for _, c := range companions {
			if strings.HasPrefix(lower, c) {
				return other
			}
		}
		return torchFile
	}
	switch {
	case strings.HasSuffix(lower, indexSuffix):
		return index
	case strings.HasSuffix(lower, torchIndexSuffix):
		return torchIndex
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
	case torchFile:
		return source(torch.Open(path))
	case torchIndex:
		return source(torch.OpenIndex(path))
	case ggufFile:
		return source(gguf.Open(path))
	case leftover:
		return nil, interrupted(filepath.Base(path))
	}
	return nil, fmt.Errorf("%s: not a file of weights: pass a .safetensors, .bin, .pt, .pth or .gguf file, a *%s or *%s, or their folder", path, indexSuffix, torchIndexSuffix)
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
	loose := slices.Concat(names[single], names[torchFile])
	indexes := slices.Concat(names[index], names[torchIndex])
	var last *safetensors.Index
	for _, name := range indexes {
		if last, err = safetensors.ReadIndex(filepath.Join(dir, name)); err != nil {
			return nil, err
		}
		shards := last.Shards()
		loose = slices.DeleteFunc(loose, func(name string) bool {
			_, ok := slices.BinarySearch(shards, name)
			return ok
		})
	}
	if i := slices.IndexFunc(loose, shardName.MatchString); i >= 0 && len(indexes) == 0 {
		missing := "model" + indexSuffix
		if kindOf(loose[i]) == torchFile {
			missing = "pytorch_model" + torchIndexSuffix
		}
		return nil, fmt.Errorf("%s: shards without their index: %s; download %s too, or pass the FILE to use", dir, list(loose), missing)
	}
	readable := slices.Concat(indexes, loose)
	readable = append(readable, names[ggufFile]...)
	if len(readable) > 1 {
		return nil, several(dir, readable)
	}
	switch {
	case len(names[index]) == 1:
		return source(last.Open())
	case len(names[torchIndex]) == 1:
		return source(torch.Join(last))
	case len(loose) == 1:
		return openFile(filepath.Join(dir, loose[0]))
	case len(names[ggufFile]) == 1:
		return openFile(filepath.Join(dir, names[ggufFile][0]))
	}
	return nil, fmt.Errorf("%s: no weights: looked for model.safetensors, model%s with its shards, pytorch_model.bin, or one other file of weights; is this the folder of a checkpoint?", dir, indexSuffix)
}

// source keeps a failed open from becoming a Source that holds a nil pointer.
func source[R Source](r R, err error) (Source, error) {
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
var shardName = regexp.MustCompile(`-[0-9]+-of-0*([2-9]|[1-9][0-9]+)\.(safetensors|bin|pt|pth)$`)

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

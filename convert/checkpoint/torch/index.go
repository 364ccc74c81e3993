package torch

import (
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"github.com/tritter-ai/tritter/convert/checkpoint/safetensors"
	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// OpenIndex opens the shards of a pytorch_model.bin.index.json, a file that is
// made like the index of safetensors shards:
//
//	{"metadata": {...}, "weight_map": {"norm.weight": "pytorch_model-00002-of-00003.bin"}}
//
// The shards must hold the tensors of the weight map, each in the shard it is
// mapped to and nowhere else, under the names of the weight map. The caller
// closes the Reader.
func OpenIndex(path string) (*Reader, error) {
	ix, err := safetensors.ReadIndex(path)
	if err != nil {
		return nil, err
	}
	return Join(ix)
}

// Join opens the shards of an index that has been read, as [OpenIndex] does.
func Join(ix *safetensors.Index) (_ *Reader, err error) {
	all := &Reader{byName: map[string]*tensor.Tensor{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, all.Close())
		}
	}()
	wrong := func(name, got, want, hint string) error {
		return &tensor.FormatError{
			File: ix.File, Offset: tensor.NoOffset, Field: "tensor " + tensor.Quote(name), Got: got, Want: want, Hint: hint,
		}
	}
	names := slices.Sorted(maps.Keys(ix.WeightMap))
	for _, shard := range ix.Shards() {
		r, err := Open(filepath.Join(ix.Dir, shard))
		if errors.Is(err, fs.ErrNotExist) {
			first := names[slices.IndexFunc(names, func(name string) bool { return ix.WeightMap[name] == shard })]
			return nil, wrong(first, "no file "+tensor.Quote(shard), "the shard beside the index", "download the missing shard")
		}
		if err != nil {
			return nil, err
		}
		all.closers = append(all.closers, r)
		all.files = append(all.files, shard)
		if all.config == nil {
			all.config = r.config
		}
		// Whether a tensor lies twice or in the wrong shard is known once its own
		// shard has been read.
		for _, t := range r.tensors {
			mapped, ok := ix.WeightMap[t.Name]
			if !ok {
				return nil, wrong(t.Name, "it in "+tensor.Quote(t.File)+" only", "every tensor of a shard in the weight_map", "")
			}
			if other, dup := all.byName[t.Name]; dup {
				return nil, wrong(t.Name, "it in both "+tensor.Quote(other.File)+" and "+tensor.Quote(t.File), "it in one shard", "")
			}
			all.byName[t.Name] = t
			if mapped == t.File {
				all.tensors = append(all.tensors, t)
			}
		}
	}
	for _, name := range names {
		switch t, ok := all.byName[name]; {
		case !ok:
			return nil, wrong(name, "no such tensor in "+tensor.Quote(ix.WeightMap[name]), "it there, as the weight_map says", "")
		case t.File != ix.WeightMap[name]:
			return nil, wrong(name, "it in "+tensor.Quote(t.File), "it in "+tensor.Quote(ix.WeightMap[name])+", as the weight_map says", "")
		}
	}
	all.index()
	return all, nil
}

package safetensors

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// An Index is a model.safetensors.index.json: which shard holds which tensor.
//
//	{"metadata": {...}, "weight_map": {"norm.weight": "model-00002-of-00003.safetensors"}}
//
// Its metadata, total_size included, is not used: many published indexes have
// a wrong total, and the shards say what there is.
type Index struct {
	// File is the base name of the index, Dir the folder it lies in.
	File, Dir string
	// WeightMap maps each tensor to its shard, the base name of a file in Dir.
	WeightMap map[string]string
}

// ReadIndex reads and checks an index file, without opening any shard.
func ReadIndex(path string) (*Index, error) {
	f, size, err := tensor.OpenRegular(path)
	if err != nil {
		return nil, err
	}
	ix, err := readIndex(filepath.Base(path), f, size)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	ix.Dir = filepath.Dir(path)
	return ix, nil
}

func readIndex(file string, r io.ReaderAt, size int64) (*Index, error) {
	if size > MaxHeader {
		return nil, &tensor.UnsupportedError{
			File: file, Field: "file length", Got: fmt.Sprintf("%d bytes", size), Want: fmt.Sprintf("at most %d", MaxHeader),
		}
	}
	text := make([]byte, size)
	if err := readFull(file, r, text, 0); err != nil {
		return nil, err
	}
	return parseIndex(file, text)
}

func parseIndex(file string, text []byte) (*Index, error) {
	if err := tensor.Placeholder(file, text[:min(len(text), 64)]); err != nil {
		return nil, err
	}
	s := &scanner{file: file, text: text}
	ix := &Index{File: file}
	top := field{part: "index"}
	metadata := false
	s.space()
	err := s.object(top, func(key string, at int) error {
		switch {
		case key == "metadata" && !metadata:
			metadata = true
			if s.peek() != '{' {
				return s.fail(s.pos, field{part: key}, s.found(), "an object")
			}
			return s.skip(field{part: key}, 0)
		case key == "weight_map" && ix.WeightMap == nil:
			return ix.readMap(s)
		case key == "metadata", key == "weight_map":
			return s.fail(at, top, "key "+tensor.Quote(key)+" twice", "every key once")
		}
		return s.fail(at, top, "key "+tensor.Quote(key), "metadata and weight_map only")
	})
	if err != nil {
		return nil, err
	}
	if s.space(); s.pos < len(text) {
		return nil, s.fail(s.pos, top, s.found()+" after its end", "nothing more")
	}
	if len(ix.WeightMap) == 0 {
		return nil, s.fail(0, field{part: "weight_map"}, "no tensors", "a shard for every tensor")
	}
	return ix, nil
}

func (ix *Index) readMap(s *scanner) error {
	ix.WeightMap = map[string]string{}
	shards := map[string]string{} // each name once, so that tensors share the string
	f := field{part: "weight_map"}
	return s.object(f, func(key string, at int) error {
		if _, dup := ix.WeightMap[key]; dup {
			return s.fail(at, f, "key "+tensor.Quote(key)+" twice", "every key once")
		}
		if len(ix.WeightMap) == MaxTensors {
			return s.limit(at, f, "a further tensor", fmt.Sprintf("at most %d", MaxTensors))
		}
		if err := s.checkName(key, at); err != nil {
			return err
		}
		at = s.pos
		tf := field{tensor.Quote(key), "shard"}
		shard, err := s.string(tf, "the name of its shard")
		if err != nil {
			return err
		}
		known, ok := shards[shard]
		if !ok {
			if got, want := badShard(shard); got != "" {
				return s.fail(at, tf, got, want)
			}
			if len(shards) == MaxShards {
				return s.limit(at, tf, "a further shard", fmt.Sprintf("at most %d", MaxShards))
			}
			shards[shard], known = shard, shard
		}
		ix.WeightMap[key] = known
		return nil
	})
}

// badShard says what is wrong with the name of a shard, which must be that of
// a file beside the index on every system.
func badShard(name string) (got, want string) {
	if got, want = badName(name); got != "" {
		return got, want
	}
	if strings.ContainsAny(name, `/\:`) || name == "." || name == ".." || len(name) > 255 || !filepath.IsLocal(name) {
		return tensor.Quote(name), "the plain name of a file beside the index"
	}
	return "", ""
}

// Shards returns the names of the shards, sorted, each once.
func (ix *Index) Shards() []string {
	seen := map[string]bool{}
	for _, shard := range ix.WeightMap {
		seen[shard] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// Open opens every shard and checks that together they hold the tensors of the
// weight map, each in the shard it is mapped to and nowhere else. The caller
// closes the Reader.
func (ix *Index) Open() (*Reader, error) {
	return ix.join(func(shard string) (*Reader, error) {
		return Open(filepath.Join(ix.Dir, shard))
	})
}

// join opens the shards with open and merges them into one Reader.
func (ix *Index) join(open func(shard string) (*Reader, error)) (_ *Reader, err error) {
	all := &Reader{metadata: map[string]string{}, byName: map[string]*tensor.Tensor{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, all.Close())
		}
	}()
	disagree := map[string]bool{}
	for _, shard := range ix.Shards() {
		r, err := open(shard)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, ix.wrong(ix.first(shard), "no file "+tensor.Quote(shard), "the shard beside the index",
				"download the missing shard")
		}
		if err != nil {
			return nil, err
		}
		all.closers = append(all.closers, r)
		all.files = append(all.files, shard)
		if err := ix.add(all, r); err != nil {
			return nil, err
		}
		for k, v := range r.metadata {
			if old, ok := all.metadata[k]; ok && old != v {
				disagree[k] = true
			}
			all.metadata[k] = v
		}
	}
	if len(all.tensors) < len(ix.WeightMap) {
		return nil, ix.missing(all)
	}
	maps.DeleteFunc(all.metadata, func(k, _ string) bool { return disagree[k] })
	all.index()
	return all, nil
}

// add takes over the tensors of the shard r that are mapped to it. Of the
// others it only remembers where they were seen: whether such a tensor lies
// twice or in the wrong place is known once its own shard has been read.
func (ix *Index) add(all, r *Reader) error {
	for _, t := range r.tensors {
		mapped, ok := ix.WeightMap[t.Name]
		if !ok {
			return ix.wrong(t.Name, "it in "+tensor.Quote(t.File)+" only", "every tensor of a shard in the weight_map", "")
		}
		if other, dup := all.byName[t.Name]; dup {
			return ix.wrong(t.Name, "it in both "+tensor.Quote(other.File)+" and "+tensor.Quote(t.File), "it in one shard", "")
		}
		all.byName[t.Name] = t
		if mapped == t.File {
			all.tensors = append(all.tensors, t)
		}
	}
	return nil
}

// missing reports the first tensor, by name, that its shard does not hold.
func (ix *Index) missing(all *Reader) error {
	for _, name := range slices.Sorted(maps.Keys(ix.WeightMap)) {
		shard := tensor.Quote(ix.WeightMap[name])
		t, ok := all.byName[name]
		if !ok {
			return ix.wrong(name, "no such tensor in "+shard, "it there, as the weight_map says", "")
		}
		if t.File != ix.WeightMap[name] {
			return ix.wrong(name, "it in "+tensor.Quote(t.File), "it in "+shard+", as the weight_map says", "")
		}
	}
	return nil
}

func (ix *Index) wrong(name, got, want, hint string) error {
	return &tensor.FormatError{
		File: ix.File, Offset: tensor.NoOffset, Field: "tensor " + tensor.Quote(name), Got: got, Want: want, Hint: hint,
	}
}

// first returns the first tensor, by name, that is mapped to shard.
func (ix *Index) first(shard string) string {
	for _, name := range slices.Sorted(maps.Keys(ix.WeightMap)) {
		if ix.WeightMap[name] == shard {
			return name
		}
	}
	return ""
}

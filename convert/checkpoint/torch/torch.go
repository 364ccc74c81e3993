// Package torch reads the checkpoints that PyTorch writes, .pt, .pth and .bin
// files alike, without running anything that they ask for and without reading
// a tensor before it is wanted.
//
// Two layouts exist. Since PyTorch 1.6 torch.save writes a zip archive of
// stored records below one folder:
//
//	checkpoint/data.pkl      a pickle: names, shapes, strides, references to storages
//	checkpoint/byteorder     little
//	checkpoint/data/0        the bytes of storage 0
//	checkpoint/version       3
//
// Before, it wrote pickles one after the other: a magic number, a protocol
// version, the sizes of C types, the object, the keys of its storages, and for
// each key a count and the bytes.
//
// A pickle is a program. It is read in two steps: a linear pre-scan follows
// the kind of every value on the stack and in the memo and refuses whatever a
// checkpoint of tensors has no use for, with its offset; then gopickle decodes
// it, with classes from a fixed list ([Open] says which) and with storages as
// places in the file. Both costs are bounded, see the limits.
//
// # Which tensors
//
// The pickled object is a dictionary of tensors, or a dictionary that holds
// one under model_state_dict, state_dict, model or module, at most four levels
// deep. Where more than one of these keys leads to tensors, the file is
// refused. Everything beside that dictionary (optimizer, scheduler, random
// state) is left alone; its storages are never read. From names go the parts
// that wrappers put in: _orig_mod (torch.compile), _fsdp_wrapped_module and
// _checkpoint_wrapped_module anywhere, and module (DataParallel and
// DistributedDataParallel) at the front when every name begins with it.
//
// # Checksums
//
// The archive has a CRC-32 for every record. Those of data.pkl and byteorder
// are checked when the file is opened. That of a storage is checked as soon as
// every byte of it has been read, in any order, by any number of goroutines
// and through any of its tensors: the read that completes it, and all later
// ones, give a [tensor.FormatError] when it does not match. Storages of which
// some bytes are never asked for are not checked, nor are those that are read
// in more than 4096 separate places at a time. Legacy files have no checksums.
package torch

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"path/filepath"
	"slices"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// Limits. They are this reader's own; what exceeds one is refused as
// unsupported. Together they keep the cost of a file, whatever it holds, below
// 256 MB and two seconds.
const (
	// MaxPickle is the longest data.pkl, or pickle of a legacy file, in bytes.
	MaxPickle = 32 << 20
	// MaxTensors bounds the tensors of one file and of all shards together.
	MaxTensors = 65_536
	// MaxRecords bounds the records of an archive.
	MaxRecords = 65_536
	// MaxDirectory bounds the central directory of an archive, in bytes.
	MaxDirectory = 8 << 20
	// MaxRank bounds the length of a shape.
	MaxRank = 8
	// MaxName bounds a tensor's name, in bytes.
	MaxName = 1_024
)

// A Reader is an opened checkpoint: one file or all shards of an index. It
// implements [tensor.Source]. It keeps its files open and reads them with
// ReadAt, never through a map.
type Reader struct {
	tensors []*tensor.Tensor
	byName  map[string]*tensor.Tensor
	config  map[string]any
	files   []string
	closers []io.Closer
}

var _ tensor.Source = (*Reader)(nil)

// Open opens one PyTorch file, of either layout, and checks its structure. The
// caller closes the Reader.
//
// Of the names that a pickle may ask for, these are known: the functions that
// rebuild tensors and parameters, storages and element types of torch, the
// containers of Python, and a few value types such as numpy scalars and paths.
// A class of another module that is spelled like a class (CapWords) becomes an
// inert object: its attributes are data, none of its code exists here. Any
// other name is refused: as a [tensor.FormatError] if it belongs to Python's
// standard library, because then the file is made to run something, else as a
// [tensor.UnsupportedError].
//
// TorchScript archives, tar files, big-endian files and whole pickled modules
// are unsupported.
func Open(path string) (*Reader, error) {
	f, size, err := tensor.OpenRegular(path)
	if err != nil {
		return nil, err
	}
	r, err := New(filepath.Base(path), f, size)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r.closers = []io.Closer{f}
	return r, nil
}

// New reads a PyTorch file of size bytes from r, as [Open] does; name is the
// base name that errors and tensors give as their file. Closing the Reader
// does not close r.
func New(name string, r io.ReaderAt, size int64) (*Reader, error) {
	src := &source{name: name, r: r, size: size}
	beginning := make([]byte, min(max(size, 0), 512))
	if err := src.read(beginning, 0); err != nil {
		return nil, err
	}
	if err := tensor.Placeholder(name, beginning); err != nil {
		return nil, err
	}
	load := loadZip
	switch {
	case bytes.HasPrefix(beginning, []byte("PK")):
	case bytes.HasPrefix(beginning, legacyMagic):
		load = loadLegacy
	default:
		return nil, src.foreign(beginning)
	}
	root, err := load(src)
	if err != nil {
		return nil, err
	}
	rd := &Reader{files: []string{name}}
	if rd.tensors, rd.config, err = root.pick(); err != nil {
		return nil, err
	}
	rd.index()
	return rd, nil
}

// index sorts the tensors and builds the table that Lookup uses.
func (r *Reader) index() {
	slices.SortFunc(r.tensors, func(a, b *tensor.Tensor) int { return cmp.Compare(a.Name, b.Name) })
	r.byName = make(map[string]*tensor.Tensor, len(r.tensors))
	for _, t := range r.tensors {
		r.byName[t.Name] = t
	}
}

// Tensors returns every tensor, sorted by name. The slice is the Reader's own.
func (r *Reader) Tensors() []*tensor.Tensor { return r.tensors }

// Lookup returns the tensor of that exact name.
func (r *Reader) Lookup(name string) (*tensor.Tensor, bool) {
	t, ok := r.byName[name]
	return t, ok
}

// Config returns the plain values that lie beside the tensors, by their keys
// in the pickled dictionary: nil, bool, int64, float64, string, []any and
// map[string]any. An inert object is a map of its attributes, or the one value
// that it was made from (an Enum). Tensors, training state and whatever is not
// plain are left out, as are lists of more than 4096 values, levels beyond
// eight, and everything after 65,536 values. Of several shards it is that of
// the first. The map is the Reader's own.
func (r *Reader) Config() map[string]any { return r.config }

// Metadata returns the scalars of the dictionary or object "metadata", or,
// without one, "model_config", or "config", as Python's str spells them
// ("True", "128"), which is how the metadata of a safetensors file holds them.
// Numbers that are not finite are left out.
func (r *Reader) Metadata() map[string]string { return metadata(r.config) }

// Files returns the base names of the files that were opened, sorted; of a
// sharded checkpoint these are the shards, without the index.
func (r *Reader) Files() []string { return r.files }

// Close closes the files. Reading a tensor afterwards gives os.ErrClosed.
func (r *Reader) Close() error {
	var errs []error
	for _, c := range r.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

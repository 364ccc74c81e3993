package torch

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"

	"github.com/nlpodyssey/gopickle/pickle"
	"github.com/nlpodyssey/gopickle/types"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// A storage is an array of elements in the file that tensors are views of.
type storage struct {
	key   string
	class *storageClass
	// dtype is that of the class or, of an untyped storage, of its first tensor;
	// nil before there is one.
	dtype *dtype
	bytes int64
	data  *record
}

// A view is a tensor as the pickle describes it, in elements of its dtype.
type view struct {
	storage       *storage
	dtype         *dtype
	offset        int64
	shape, stride []int64
}

// A class is a class of inert objects.
type class struct{ module, name string }

var (
	_ types.Callable  = (*class)(nil)
	_ types.PyNewable = (*class)(nil)
)

// An object is an instance of a class that does not exist here: what it was
// made from, its state and its items, and nothing that acts.
type object struct {
	class *class
	args  []any
	state any
	items *types.Dict // of a subclass of dict
	list  *types.List // of a subclass of list
}

var (
	_ types.PyStateSettable = (*object)(nil)
	_ types.DictSetter      = (*object)(nil)
	_ types.ListAppender    = (*object)(nil)
)

// Call returns an object that remembers args.
func (c *class) Call(args ...any) (any, error) { return &object{class: c, args: args}, nil }

// PyNew is Call.
func (c *class) PyNew(args ...any) (any, error) { return c.Call(args...) }

// PySetState remembers the state of BUILD.
func (o *object) PySetState(state any) error {
	o.state = state
	return nil
}

// Set remembers an item of a subclass of dict.
func (o *object) Set(key, value any) {
	if o.items == nil {
		o.items = types.NewDict()
	}
	o.items.Set(key, value)
}

// Append remembers an element of a subclass of list.
func (o *object) Append(v any) {
	if o.list == nil {
		o.list = types.NewList()
	}
	o.list.Append(v)
}

// A function rebuilds a value from the arguments of REDUCE; it has no effects.
type function func(args []any) (any, error)

var _ types.Callable = function(nil)

// Call calls f.
func (f function) Call(args ...any) (any, error) { return f(args) }

// errArguments says that a function got arguments of another kind.
var errArguments = errors.New("arguments of another kind than torch.save writes")

// rebuild returns a function that takes between least and most arguments.
func rebuild(least, most int, f function) function {
	return func(args []any) (any, error) {
		if len(args) < least || len(args) > most {
			return nil, fmt.Errorf("%d arguments, want %d to %d", len(args), least, most)
		}
		return f(args)
	}
}

// rebuildTensor is torch._utils._rebuild_tensor and its versions 2 and 3: the
// storage, the offset, the shape, the strides, whether a gradient is wanted,
// hooks, and in version 3 the element type.
func rebuildTensor(args []any) (any, error) {
	st, ok := args[0].(*storage)
	offset, ok2 := args[1].(int)
	if !ok || !ok2 {
		return nil, errArguments
	}
	v := &view{storage: st, offset: int64(offset), dtype: st.class.dtype}
	var err error
	if v.shape, err = integers(args[2]); err != nil {
		return nil, err
	}
	if v.stride, err = integers(args[3]); err != nil {
		return nil, err
	}
	if len(args) >= 7 {
		if t, ok := args[6].(*dtype); ok {
			v.dtype = t
		}
	}
	if v.dtype == nil {
		return nil, errors.New("an untyped storage without an element type")
	}
	if st.dtype == nil {
		st.dtype = v.dtype
	}
	if st.dtype.id != v.dtype.id {
		return nil, fmt.Errorf("storage %s used as %s and as %s, want one element type", tensor.Quote(st.key), st.dtype.name, v.dtype.name)
	}
	return v, nil
}

// integers returns the elements of a tuple, list or torch.Size of integers.
func integers(v any) ([]int64, error) {
	var list []any
	switch t := v.(type) {
	case *types.Tuple:
		list = *t
	case *types.List:
		list = *t
	default:
		return nil, errArguments
	}
	if len(list) > MaxRank {
		return nil, fmt.Errorf("rank %d, want at most %d", len(list), MaxRank)
	}
	out := make([]int64, len(list))
	for i, e := range list {
		n, ok := e.(int)
		if !ok {
			return nil, errArguments
		}
		out[i] = int64(n)
	}
	return out, nil
}

// rebuildParameter is torch._utils._rebuild_parameter: the tensor, whether a
// gradient is wanted, hooks, and with state its attributes.
func rebuildParameter(args []any) (any, error) {
	v, ok := args[0].(*view)
	if !ok {
		return nil, errArguments
	}
	return v, nil
}

// rebuildFromType is torch._tensor._rebuild_from_type_v2, which rebuilds a
// tensor that has attributes: a function, the type, the function's arguments,
// the attributes. Here the type and the attributes are of no account.
func rebuildFromType(args []any) (any, error) {
	f, ok := args[0].(function)
	inner, ok2 := args[2].(*types.Tuple)
	if !ok || !ok2 {
		return nil, errArguments
	}
	// A function in its own arguments would not end.
	if slices.ContainsFunc(*inner, func(a any) bool { _, is := a.(function); return is }) {
		return nil, errArguments
	}
	return f(*inner)
}

// rebuildSize is torch.Size: a tuple.
func rebuildSize(args []any) (any, error) {
	if t, ok := args[0].(*types.Tuple); ok {
		return t, nil
	}
	return nil, errArguments
}

// A decoder decodes one pickle.
type decoder struct {
	*source
	where    string // the record, for errors
	base     int64  // its offset in the file
	storages map[string]*storage
	// locate finds the bytes of a storage that is met for the first time; nil
	// where they are known only later.
	locate func(st *storage, off int64) error

	in   stream
	root any
}

// A stream hands the pickle to gopickle, without its frames.
type stream struct {
	data   []byte
	pos    int
	frames []int
}

// ReadByte returns the next byte. Operations begin with it, so here, where a
// frame can begin, frames are skipped.
func (s *stream) ReadByte() (byte, error) {
	for len(s.frames) > 0 && s.frames[0] == s.pos {
		s.frames = s.frames[1:]
		s.pos += frameOpSize
	}
	if s.pos >= len(s.data) {
		return 0, io.ErrUnexpectedEOF
	}
	s.pos++
	return s.data[s.pos-1], nil
}

// frameOpSize is the length of the FRAME operation.
const frameOpSize = 9

func (s *stream) Read(p []byte) (int, error) {
	n := copy(p, s.data[s.pos:])
	s.pos += n
	if n < len(p) {
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

// decode checks and decodes data, which must be one pickle and nothing more.
func (d *decoder) decode(data []byte) error {
	n, frames, err := prescan(d.source, d.where, d.base, data)
	if err != nil {
		return err
	}
	if n != len(data) {
		return d.wrong(d.base+int64(n), d.where, fmt.Sprintf("%d bytes after the pickle", len(data)-n), "none", "")
	}
	return d.run(data, frames)
}

// run decodes a pickle that has passed the pre-scan.
func (d *decoder) run(data []byte, frames []int) error {
	d.in = stream{data: data, frames: frames}
	u := pickle.NewUnpickler(&d.in)
	u.FindClass = func(module, name string) (any, error) {
		g, _, _ := lookup(module, name)
		return g.value, nil
	}
	u.PersistentLoad = d.persistent
	root, err := u.Load()
	if err != nil {
		var format *tensor.FormatError
		var unsupported *tensor.UnsupportedError
		if errors.As(err, &format) || errors.As(err, &unsupported) {
			return err
		}
		return d.wrong(d.at(), d.where, tensor.Quote(err.Error()), "what torch.save writes", "")
	}
	d.root = root
	return nil
}

// at returns the offset in the file of the operation that is being decoded,
// which has one byte if it calls back.
func (d *decoder) at() int64 { return d.base + int64(max(d.in.pos-1, 0)) }

// persistent returns the storage of a persistent id:
// ("storage", class, key, location, count), and in legacy files a sixth part
// that is None unless the storage is a part of another.
func (d *decoder) persistent(id any) (any, error) {
	t, ok := id.(*types.Tuple)
	if !ok || t.Len() < persistentIDParts || t.Len() > persistentIDParts+1 {
		return nil, errArguments
	}
	if what, _ := t.Get(0).(string); what == "module" {
		return nil, d.limit(d.at(), d.where, "a pickled module", "tensors", "torch.save the model's state_dict() instead of the model")
	}
	class, ok := t.Get(1).(*storageClass)
	key, ok2 := t.Get(2).(string)
	count, ok3 := t.Get(4).(int)
	if what, _ := t.Get(0).(string); what != "storage" || !ok || !ok2 || !ok3 {
		return nil, errArguments
	}
	if t.Len() > persistentIDParts && t.Get(persistentIDParts) != nil {
		return nil, d.limit(d.at(), d.where, "a storage that is a part of another", "whole storages", "load it with PyTorch and save it again")
	}
	if count < 0 {
		return nil, d.wrong(d.at(), d.where, fmt.Sprintf("a storage of %d elements", count), "0 or more", "")
	}
	size := 1
	if class.dtype != nil {
		// Element types that no tensor here can have are known by name only; the
		// length of their storages is not checked, and their tensors are refused.
		size = class.dtype.id.Size()
	}
	hi, lo := bits.Mul64(uint64(count), uint64(size))
	if hi != 0 || lo > uint64(d.size) {
		return nil, d.wrong(d.at(), d.where, fmt.Sprintf("storage %s of %d elements", tensor.Quote(key), count), fmt.Sprintf("one inside the file of %d bytes", d.size), interrupted)
	}
	if st, ok := d.storages[key]; ok {
		if st.class != class && (st.class.dtype == nil || class.dtype == nil || st.class.dtype.id != class.dtype.id) {
			return nil, d.wrong(d.at(), d.where, fmt.Sprintf("storage %s used as %s and as %s", tensor.Quote(key), st.class.name, class.name), "one element type", "")
		}
		if st.bytes != int64(lo) {
			return nil, d.wrong(d.at(), d.where, fmt.Sprintf("storage %s of %d and of %d bytes", tensor.Quote(key), st.bytes, lo), "one length", "")
		}
		return st, nil
	}
	st := &storage{key: key, class: class, dtype: class.dtype, bytes: int64(lo)}
	if d.locate != nil && (class.dtype == nil || class.dtype.id != "") {
		if err := d.locate(st, d.at()); err != nil {
			return nil, err
		}
	}
	d.storages[key] = st
	return st, nil
}

package torch

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/nlpodyssey/gopickle/types"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// legacyMagic begins a legacy file: the pickle of 0x1950a86a20f9469cfc6c.
var legacyMagic = []byte("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.")

// legacyProtocol follows it: the pickle of 1001.
var legacyProtocol = []byte("\x80\x02M\xe9\x03.")

// maxSystem bounds the pickle that describes the machine.
const maxSystem = 4096

// A legacyFile is read from front to back.
type legacyFile struct {
	*source
	pos int64
}

// next decodes the pickle at the current position, whose length nothing says:
// it reads a little, and more while the pre-scan finds no end.
func (l *legacyFile) next(d *decoder, limit int64) error {
	d.base = l.pos
	for n := min(limit, 64<<10); ; n = min(limit, 8*n) {
		data := make([]byte, min(n, l.size-l.pos))
		if err := l.read(data, l.pos); err != nil {
			return err
		}
		length, frames, err := prescan(l.source, d.where, d.base, data)
		if err == nil {
			l.pos += int64(length)
			return d.run(data[:length], frames)
		}
		var format *tensor.FormatError
		if !errors.As(err, &format) || format.Hint != interrupted || int64(len(data)) < n {
			return err
		}
		if n == limit {
			return l.limit(d.base, d.where, "a longer pickle", fmt.Sprintf("at most %d bytes", limit), "split the checkpoint into shards")
		}
	}
}

// loadLegacy reads what torch.save wrote before version 1.6.
func loadLegacy(src *source) (*root, error) {
	l := &legacyFile{source: src, pos: int64(len(legacyMagic))}
	protocol := make([]byte, min(int64(len(legacyProtocol)), src.size-l.pos))
	if err := src.read(protocol, l.pos); err != nil {
		return nil, err
	}
	if !bytes.Equal(protocol, legacyProtocol) {
		return nil, src.wrong(l.pos, "protocol version", tensor.Quote(string(protocol)), tensor.Quote(string(legacyProtocol))+", version 1001", interrupted)
	}
	l.pos += int64(len(protocol))

	system := &decoder{source: src, where: "system information", storages: map[string]*storage{}}
	if err := l.next(system, maxSystem); err != nil {
		return nil, err
	}
	if err := system.littleEndian(); err != nil {
		return nil, err
	}
	object := &decoder{source: src, where: "object", storages: map[string]*storage{}}
	if err := l.next(object, MaxPickle); err != nil {
		return nil, err
	}
	list := &decoder{source: src, where: "storage keys", storages: map[string]*storage{}}
	if err := l.next(list, MaxPickle); err != nil {
		return nil, err
	}
	if err := l.storages(object, list); err != nil {
		return nil, err
	}
	return &root{decoder: object}, nil
}

// littleEndian checks the description of the machine that wrote the file.
func (d *decoder) littleEndian() error {
	info, ok := pairs(d.root)
	i := slices.IndexFunc(info, func(p pair) bool { return p.key == "little_endian" })
	if !ok || i < 0 {
		return d.wrong(d.base, d.where, describe(d.root), "a dictionary with little_endian", "")
	}
	if little, _ := info[i].value.(bool); !little {
		return d.limit(d.base, d.where, "a big-endian file", "little-endian", "torch.save it on a little-endian machine")
	}
	return nil
}

// storages finds the storages behind the pickles: of each key, in the order of
// the list, a count of elements and the bytes, to the end of the file.
func (l *legacyFile) storages(object, list *decoder) error {
	keys, ok := list.root.(*types.List)
	if !ok {
		return l.wrong(list.base, list.where, describe(list.root), "a list of keys", "")
	}
	counts := make([]byte, 8)
	for _, k := range *keys {
		key, _ := k.(string)
		st := object.storages[key]
		if st == nil || st.data != nil {
			return l.wrong(list.base, list.where, "key "+tensor.Quote(key), "every storage of the object once", "")
		}
		field := "storage " + tensor.Quote(key)
		item := int64(1)
		if st.dtype != nil {
			item = int64(st.dtype.id.Size())
		}
		if item == 0 {
			return l.limit(l.pos, field+": dtype", "torch."+st.dtype.name, tensor.DTypes, "")
		}
		if l.size-l.pos < int64(len(counts)) {
			return l.wrong(l.pos, field, fmt.Sprintf("%d bytes left", l.size-l.pos), "the count of its elements", interrupted)
		}
		if err := l.read(counts, l.pos); err != nil {
			return err
		}
		if st.class.dtype == nil {
			item = 1
		}
		if count := le.Uint64(counts); count != uint64(st.bytes/item) {
			return l.wrong(l.pos, field, fmt.Sprintf("%d elements", count), fmt.Sprintf("%d, as the object says", st.bytes/item), "")
		}
		l.pos += int64(len(counts))
		if st.bytes > l.size-l.pos {
			return l.wrong(l.pos, field, fmt.Sprintf("%d bytes", st.bytes), fmt.Sprintf("at most %d, the bytes left", l.size-l.pos), interrupted)
		}
		st.data = &record{r: l.r, file: l.name, offset: l.pos, size: st.bytes}
		l.pos += st.bytes
	}
	if len(*keys) != len(object.storages) {
		return l.wrong(list.base, list.where, fmt.Sprintf("%d keys", len(*keys)), fmt.Sprintf("%d, one for each storage", len(object.storages)), "")
	}
	if l.pos != l.size {
		return l.wrong(l.pos, "end", fmt.Sprintf("%d bytes after the last storage", l.size-l.pos), "none", "")
	}
	return nil
}

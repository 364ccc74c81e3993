package torch

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// Signatures and sizes of the zip format (APPNOTE 6.3.10, section 4.3), as far
// as PyTorch's writer, miniz, uses it.
const (
	localSig      = "PK\x03\x04"
	centralSig    = "PK\x01\x02"
	descriptorSig = "PK\x07\x08"
	endSig        = "PK\x05\x06"
	end64Sig      = "PK\x06\x06"
	locator64Sig  = "PK\x06\x07"

	localSize     = 30
	centralSize   = 46
	endSize       = 22
	end64Size     = 56
	locator64Size = 20

	flagDescriptor = 1 << 3 // CRC and sizes follow the data
	flagUTF8       = 1 << 11
)

// An entry is one record of an archive, as the central directory has it and
// the local header confirms it.
type entry struct {
	name   string // with its folder
	flags  uint16
	crc    uint32
	size   int64
	header int64 // of the local header
	data   int64 // of the first byte
}

// An archive is the checked directory of a PyTorch zip file.
type archive struct {
	*source
	top     string // the folder of all records, with its slash
	entries map[string]*entry
}

var le = binary.LittleEndian

// openArchive reads the central directory and every local header. The file
// must be exactly records, directory and end, in this order, without a gap.
func openArchive(src *source) (*archive, error) {
	dirOff, dirSize, count, err := src.findDirectory()
	if err != nil {
		return nil, err
	}
	dir := make([]byte, dirSize)
	if err := src.read(dir, dirOff); err != nil {
		return nil, err
	}
	a := &archive{source: src, entries: make(map[string]*entry, count)}
	list := make([]*entry, 0, count)
	for at := 0; len(list) < int(count); {
		e, n, err := src.centralEntry(dir[at:], dirOff+int64(at), dirOff)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
		at += n
		if len(list) == int(count) && at != len(dir) {
			return nil, src.wrong(dirOff+int64(at), "central directory", fmt.Sprintf("%d bytes after its last entry", len(dir)-at), "none", "")
		}
	}
	if err := a.names(list, dirOff); err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(x, y *entry) int { return cmp.Compare(x.header, y.header) })
	var next int64
	for _, e := range list {
		if e.header != next {
			return nil, src.wrong(e.header, recordField(e.name), fmt.Sprintf("a record that begins at %d", e.header),
				fmt.Sprintf("one at %d: no overlap and no gap", next), "")
		}
		if next, err = src.localHeader(e, dirOff); err != nil {
			return nil, err
		}
	}
	if next != dirOff {
		return nil, src.wrong(next, "central directory", fmt.Sprintf("a directory at %d", dirOff), fmt.Sprintf("it at %d, after the last record", next), "")
	}
	return a, nil
}

func recordField(name string) string { return "record " + tensor.Quote(name) }

// findDirectory reads the end of the archive, which must be the end of the
// file, and returns where the central directory lies.
func (s *source) findDirectory() (off, size int64, count uint64, err error) {
	tail := make([]byte, min(s.size, endSize+locator64Size+end64Size))
	if err := s.read(tail, s.size-int64(len(tail))); err != nil {
		return 0, 0, 0, err
	}
	if len(tail) < endSize || string(tail[len(tail)-endSize:][:4]) != endSig {
		return 0, 0, 0, s.wrong(s.size, "end of archive", "something else", "PyTorch's end-of-directory record in the last 22 bytes", interrupted)
	}
	endAt := s.size - endSize
	e := tail[len(tail)-endSize:]
	count, size, off = uint64(le.Uint16(e[10:])), int64(le.Uint32(e[12:])), int64(le.Uint32(e[16:]))
	bad := func(at int64, field, got, want string) error {
		return s.wrong(at, "end of archive: "+field, got, want, "")
	}
	if le.Uint16(e[4:]) != 0 || le.Uint16(e[6:]) != 0 || le.Uint16(e[8:]) != le.Uint16(e[10:]) || le.Uint16(e[20:]) != 0 {
		return 0, 0, 0, bad(endAt, "disks and comment", fmt.Sprintf("% x", e[4:]), "one disk and no comment")
	}
	dirEnd := endAt
	if len(tail) == endSize+locator64Size+end64Size && string(tail[end64Size:][:4]) == locator64Sig {
		z, l := tail[:end64Size], tail[end64Size:]
		dirEnd = s.size - int64(len(tail))
		if le.Uint64(l[8:]) != uint64(dirEnd) || string(z[:4]) != end64Sig || le.Uint64(z[4:]) != end64Size-12 {
			return 0, 0, 0, bad(dirEnd+end64Size, "zip64 locator", fmt.Sprintf("a zip64 end record at %d", le.Uint64(l[8:])), fmt.Sprintf("it at %d, before the locator", dirEnd))
		}
		count64, size64, off64 := le.Uint64(z[32:]), le.Uint64(z[40:]), le.Uint64(z[48:])
		if le.Uint32(z[16:]) != 0 || le.Uint32(z[20:]) != 0 || le.Uint64(z[24:]) != count64 ||
			count != min(count64, math.MaxUint16) || uint64(size) != min(size64, math.MaxUint32) || uint64(off) != min(off64, math.MaxUint32) {
			return 0, 0, 0, bad(dirEnd, "zip64 end record", fmt.Sprintf("%d entries in %d bytes at %d", count64, size64, off64),
				fmt.Sprintf("what the end record says: %d in %d at %d", count, size, off))
		}
		count, size, off = count64, int64(min(size64, math.MaxInt64)), int64(min(off64, math.MaxInt64))
	}
	switch {
	case off > dirEnd || size != dirEnd-off:
		return 0, 0, 0, bad(endAt, "central directory", fmt.Sprintf("%d bytes at %d", size, off), fmt.Sprintf("a directory that ends at %d", dirEnd))
	case count == 0:
		return 0, 0, 0, bad(endAt, "entries", "none", "the records of a checkpoint")
	case count > MaxRecords:
		return 0, 0, 0, s.limit(endAt, "end of archive: entries", fmt.Sprint(count), fmt.Sprintf("at most %d", MaxRecords), "split the checkpoint into shards")
	case size > MaxDirectory:
		return 0, 0, 0, s.limit(endAt, "end of archive: central directory", fmt.Sprintf("%d bytes", size), fmt.Sprintf("at most %d", MaxDirectory), "split the checkpoint into shards")
	case count > uint64(size/centralSize):
		return 0, 0, 0, bad(endAt, "entries", fmt.Sprint(count), fmt.Sprintf("at most %d, which a directory of %d bytes can hold", size/centralSize, size))
	}
	return off, size, count, nil
}

// centralEntry reads the entry at the beginning of dir, which lies at off of
// the file, and returns its length. Records end before limit.
func (s *source) centralEntry(dir []byte, off, limit int64) (*entry, int, error) {
	if len(dir) < centralSize || string(dir[:4]) != centralSig {
		return nil, 0, s.wrong(off, "central directory", "no entry", "the next entry", "")
	}
	nameLen, extraLen, commentLen := int(le.Uint16(dir[28:])), int(le.Uint16(dir[30:])), int(le.Uint16(dir[32:]))
	n := centralSize + nameLen + extraLen + commentLen
	if n > len(dir) {
		return nil, 0, s.wrong(off, "central directory", fmt.Sprintf("an entry of %d bytes with %d left", n, len(dir)), "an entry inside the directory", "")
	}
	e := &entry{name: string(dir[centralSize:][:nameLen]), flags: le.Uint16(dir[8:]), crc: le.Uint32(dir[16:])}
	field := recordField(e.name)
	if got := badRecordName(e.name); got != "" {
		return nil, 0, s.wrong(off, field, got, "FOLDER/NAME in printable UTF-8", "")
	}
	if method := le.Uint16(dir[10:]); method != 0 {
		return nil, 0, s.wrong(off, field, fmt.Sprintf("compression method %d", method), "0: PyTorch stores its records", "the archive was packed again by another program: torch.save it again")
	}
	if e.flags&^(flagDescriptor|flagUTF8) != 0 {
		return nil, 0, s.wrong(off, field, fmt.Sprintf("flags %#04x", e.flags), "0x0008 and 0x0800 only", "")
	}
	if commentLen != 0 || le.Uint16(dir[34:]) != 0 {
		return nil, 0, s.wrong(off, field, "a comment or a second disk", "neither", "")
	}
	packed, size, header := uint64(le.Uint32(dir[20:])), uint64(le.Uint32(dir[24:])), uint64(le.Uint32(dir[42:]))
	if !zip64Extra(dir[centralSize+nameLen:][:extraLen], &size, &packed, &header) {
		return nil, 0, s.wrong(off, field, "sizes of 64 bits that its extra field lacks", "a zip64 extra field", "")
	}
	if packed != size {
		return nil, 0, s.wrong(off, field, fmt.Sprintf("%d bytes stored as %d", size, packed), "equal sizes", "")
	}
	if size > uint64(limit) || header > uint64(limit)-size {
		return nil, 0, s.wrong(off, field, fmt.Sprintf("%d bytes after offset %d", size, header), fmt.Sprintf("a record that ends before the directory at %d", limit), interrupted)
	}
	e.size, e.header = int64(size), int64(header)
	return e, n, nil
}

// zip64Extra replaces each value of 32 one bits by the next of the zip64 extra
// field, in the order of APPNOTE 4.5.3, and reports whether all were there.
func zip64Extra(extra []byte, values ...*uint64) bool {
	var field []byte
	for len(extra) >= 4 {
		n := int(le.Uint16(extra[2:]))
		if n > len(extra)-4 {
			return false
		}
		if le.Uint16(extra) == 1 {
			field = extra[4:][:n]
		}
		extra = extra[4+n:]
	}
	for _, v := range values {
		if *v != math.MaxUint32 {
			continue
		}
		if len(field) < 8 {
			return false
		}
		*v, field = le.Uint64(field), field[8:]
	}
	return true
}

func badRecordName(name string) string {
	switch i := strings.IndexByte(name, '/'); {
	case i <= 0 || i == len(name)-1:
		return "a name without folder"
	case !utf8.ValidString(name):
		return "invalid UTF-8"
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }):
		return "a control character or backslash"
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return "an empty part or dots"
		}
	}
	return ""
}

// names fills the table of entries. PyTorch finds records by name without
// regard to case, and takes the folder of the first entry for that of all, so
// that two readers could see two different files unless names are unique.
func (a *archive) names(list []*entry, dirOff int64) error {
	a.top = list[0].name[:strings.IndexByte(list[0].name, '/')+1]
	base := make(map[string]string, len(list))
	for _, e := range list {
		inner, ok := strings.CutPrefix(e.name, a.top)
		if !ok {
			return a.wrong(dirOff, recordField(e.name), "it outside of the folder "+tensor.Quote(a.top), "all records in one folder", "")
		}
		last := strings.ToLower(inner[strings.LastIndexByte(inner, '/')+1:])
		if other, dup := base[last]; dup {
			return a.wrong(dirOff, recordField(e.name), "a record of the same name, "+tensor.Quote(other), "names and last parts of names that are unique", "")
		}
		base[last] = e.name
		a.entries[inner] = e
	}
	for inner := range a.entries {
		if inner == "constants.pkl" || strings.HasPrefix(inner, "code/") {
			return a.limit(dirOff, recordField(a.top+inner), "TorchScript, a program,", "a file that torch.save wrote", "load it with torch.jit.load and torch.save its state_dict()")
		}
	}
	return nil
}

// localHeader holds the local header of e against the central directory, sets
// e.data and returns where the next record begins.
func (s *source) localHeader(e *entry, limit int64) (int64, error) {
	field := recordField(e.name)
	h := make([]byte, localSize+len(e.name))
	if e.header > limit-int64(len(h)) {
		return 0, s.wrong(e.header, field, "a local header that does not fit", fmt.Sprintf("one that ends before %d", limit), "")
	}
	if err := s.read(h, e.header); err != nil {
		return 0, err
	}
	if string(h[:4]) != localSig {
		return 0, s.wrong(e.header, field, fmt.Sprintf("% x", h[:4]), "a local header", "")
	}
	if int(le.Uint16(h[26:])) != len(e.name) || string(h[localSize:]) != e.name {
		return 0, s.wrong(e.header, field, "another name in the local header", "the name of the central directory", "")
	}
	if le.Uint16(h[6:]) != e.flags || le.Uint16(h[8:]) != 0 {
		return 0, s.wrong(e.header, field, fmt.Sprintf("flags %#04x and method %d in the local header", le.Uint16(h[6:]), le.Uint16(h[8:])),
			fmt.Sprintf("%#04x and 0, as in the central directory", e.flags), "")
	}
	sum, packed, size := le.Uint32(h[14:]), le.Uint32(h[18:]), le.Uint32(h[22:])
	descriptor := e.flags&flagDescriptor != 0
	same := func(v uint32, want int64) bool {
		return int64(v) == want || v == math.MaxUint32 || descriptor && v == 0
	}
	if (sum != e.crc && !(descriptor && sum == 0)) || !same(packed, e.size) || !same(size, e.size) {
		return 0, s.wrong(e.header, field, fmt.Sprintf("CRC %08x and sizes %d, %d in the local header", sum, packed, size),
			fmt.Sprintf("%08x and %d, as in the central directory", e.crc, e.size), "")
	}
	e.data = e.header + int64(len(h)) + int64(le.Uint16(h[28:]))
	if e.data > limit || e.size > limit-e.data {
		return 0, s.wrong(e.header, field, fmt.Sprintf("%d bytes at %d", e.size, e.data), fmt.Sprintf("a record that ends before the directory at %d", limit), "")
	}
	end := e.data + e.size
	if !descriptor {
		return end, nil
	}
	d := make([]byte, min(24, limit-end))
	if err := s.read(d, end); err != nil {
		return 0, err
	}
	// The sizes are of 4 or 8 bytes; nothing says which but where the next
	// record begins, and that both halves of a long size are right.
	if len(d) >= 16 && string(d[:4]) == descriptorSig && le.Uint32(d[4:]) == e.crc {
		if len(d) == 24 && le.Uint64(d[8:]) == uint64(e.size) && le.Uint64(d[16:]) == uint64(e.size) {
			return end + 24, nil
		}
		if int64(le.Uint32(d[8:])) == e.size && int64(le.Uint32(d[12:])) == e.size {
			return end + 16, nil
		}
	}
	return 0, s.wrong(end, field, fmt.Sprintf("% x after its data", d), "a data descriptor with its CRC and sizes", "")
}

// whole reads a short record and checks its CRC.
func (a *archive) whole(e *entry, limit int64) ([]byte, error) {
	if e.size > limit {
		return nil, a.limit(e.data, recordField(e.name), fmt.Sprintf("a record of %d bytes", e.size), fmt.Sprintf("at most %d", limit), "split the checkpoint into shards")
	}
	data := make([]byte, e.size)
	if err := a.read(data, e.data); err != nil {
		return nil, err
	}
	if sum := crc32.ChecksumIEEE(data); sum != e.crc {
		return nil, crcError(a.name, e, sum)
	}
	return data, nil
}

func crcError(file string, e *entry, sum uint32) error {
	return &tensor.FormatError{
		File: file, Offset: e.data, Field: recordField(e.name), Got: fmt.Sprintf("CRC-32 %08x", sum), Want: fmt.Sprintf("%08x, as the archive says", e.crc),
		Hint: "the file is damaged: fetch it again",
	}
}

// loadZip opens the archive and decodes its data.pkl.
func loadZip(src *source) (*root, error) {
	a, err := openArchive(src)
	if err != nil {
		return nil, err
	}
	if e, ok := a.entries["byteorder"]; ok {
		order, err := a.whole(e, 64)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(order, []byte("little")) {
			return nil, src.limit(e.data, recordField(e.name), "byte order "+tensor.Quote(string(order)), `"little"`, "torch.save it on a little-endian machine")
		}
	}
	pkl, ok := a.entries["data.pkl"]
	if !ok {
		return nil, src.wrong(src.size, recordField(a.top+"data.pkl"), "no such record", "the pickle of a checkpoint", "is this a PyTorch file?")
	}
	data, err := a.whole(pkl, MaxPickle)
	if err != nil {
		return nil, err
	}
	d := &decoder{source: src, where: recordField(pkl.name), base: pkl.data, storages: map[string]*storage{}}
	d.locate = func(st *storage, off int64) error {
		e, ok := a.entries["data/"+st.key]
		if !ok {
			return src.wrong(off, d.where, "storage "+tensor.Quote(st.key)+" without its record", "record "+tensor.Quote(a.top+"data/"+st.key), "")
		}
		if e.size != st.bytes {
			return src.wrong(e.data, recordField(e.name), fmt.Sprintf("a record of %d bytes", e.size), fmt.Sprintf("%d, as data.pkl says", st.bytes), "")
		}
		if e.size == 0 && e.crc != 0 {
			return crcError(src.name, e, 0)
		}
		st.data = newRecord(src, e)
		return nil
	}
	if err := d.decode(data); err != nil {
		return nil, err
	}
	return &root{decoder: d}, nil
}

package torch

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The functions below write pickles by hand, an operation or a value each.

func u32(n int) string { return string(binary.LittleEndian.AppendUint32(nil, uint32(n))) }
func u64(n int) string { return string(binary.LittleEndian.AppendUint64(nil, uint64(n))) }

func str(s string) string { return "X" + u32(len(s)) + s }

func num(n int) string {
	if n >= 0 && n < 256 {
		return "K" + string([]byte{byte(n)})
	}
	return "\x8a\x08" + u64(n)
}

func name(module, name string) string { return "c" + module + "\n" + name + "\n" }

func tuple(items ...string) string { return "(" + strings.Join(items, "") + "t" }

func list(items ...string) string { return "](" + strings.Join(items, "") + "e" }

func dict(items ...string) string { return "}(" + strings.Join(items, "") + "u" }

func call(f string, args ...string) string { return f + tuple(args...) + "R" }

func ordered(items ...string) string {
	return name("collections", "OrderedDict") + ")R(" + strings.Join(items, "") + "u"
}

func storageID(class, key string, count int) string {
	module := "torch"
	if class == "UntypedStorage" {
		module = "torch.storage"
	}
	return tuple(str("storage"), name(module, class), str(key), str("cpu"), num(count)) + "Q"
}

func ints(v ...int) string {
	var items []string
	for _, n := range v {
		items = append(items, num(n))
	}
	return tuple(items...)
}

// viewOf is a tensor of a storage.
func viewOf(storage string, offset int, shape, stride string) string {
	return call(name("torch._utils", "_rebuild_tensor_v2"), storage, num(offset), shape, stride, "\x89", ordered())
}

// floats is a contiguous vector of n floats, all of storage key.
func floats(key string, n int) string {
	return viewOf(storageID("FloatStorage", key, n), 0, ints(n), ints(1))
}

func whole(body string) string { return "\x80\x02" + body + "." }

// A zipRecord is a record to write; the fields after data break the rules.
type zipRecord struct {
	name, data string

	localName    string
	method       uint16
	flags        uint16 // added
	localFlags   uint16 // added
	crc          uint32 // added
	localCRC     uint32 // instead of 0
	localSize    uint32 // instead of 0
	size         int    // added to the size of the central directory
	noDescriptor bool
	descriptor   string // instead of the right one
	gap          int    // bytes behind
	comment      string
	extra        string // of the central directory
	offset       int    // added to the offset of the local header
	zip64        bool   // long descriptor, and central values in the extra field
}

// A zipEnd breaks the rules at the end of an archive.
type zipEnd struct {
	before, comment, after string
	count, size, offset    int // added
	plain                  bool
	locator                int // added
}

func align(n int) int { return (64 - n%64) % 64 }

// archiveOf writes an archive as PyTorch does, but for what records and end ask.
func archiveOf(end zipEnd, records ...zipRecord) []byte {
	var b bytes.Buffer
	b.WriteString(end.before)
	le := binary.LittleEndian
	var central []byte
	for _, r := range records {
		at := b.Len()
		sum := crc32.ChecksumIEEE([]byte(r.data)) + r.crc
		flags := uint16(0x0808) + r.flags
		if r.noDescriptor {
			flags &^= flagDescriptor
		}
		local := r.name
		if r.localName != "" {
			local = r.localName
		}
		localSize, localCRC := r.localSize, r.localCRC
		if r.noDescriptor && localCRC == 0 {
			localSize, localCRC = uint32(len(r.data)), sum
		}
		h := le.AppendUint16([]byte(localSig), 0)
		h = le.AppendUint16(h, flags+r.localFlags)
		h = le.AppendUint16(h, r.method)
		h = le.AppendUint32(h, 0)
		h = le.AppendUint32(h, localCRC)
		h = le.AppendUint32(h, localSize)
		h = le.AppendUint32(h, localSize)
		h = le.AppendUint16(h, uint16(len(local)))
		pad := align(at + len(h) + 2 + len(local))
		h = le.AppendUint16(h, uint16(pad))
		b.Write(h)
		b.WriteString(local)
		b.WriteString(strings.Repeat("Z", pad))
		b.WriteString(r.data)
		switch {
		case r.descriptor != "":
			b.WriteString(r.descriptor)
		case r.zip64:
			b.Write(le.AppendUint32([]byte(descriptorSig), sum))
			b.WriteString(u64(len(r.data)) + u64(len(r.data)))
		case !r.noDescriptor:
			b.Write(le.AppendUint32([]byte(descriptorSig), sum))
			b.WriteString(u32(len(r.data)) + u32(len(r.data)))
		}
		b.Write(make([]byte, r.gap))

		size, offset, extra := uint32(len(r.data)+r.size), uint32(at+r.offset), r.extra
		if r.zip64 {
			extra += "\x01\x00\x18\x00" + u64(int(size)) + u64(int(size)) + u64(int(offset))
			size, offset = math.MaxUint32, math.MaxUint32
		}
		central = append(central, centralSig+"\x00\x00\x00\x00"...)
		central = le.AppendUint16(central, flags)
		central = le.AppendUint16(central, r.method)
		central = le.AppendUint32(central, 0)
		central = le.AppendUint32(central, sum)
		central = le.AppendUint32(central, size)
		central = le.AppendUint32(central, size)
		central = le.AppendUint16(central, uint16(len(r.name)))
		central = le.AppendUint16(central, uint16(len(extra)))
		central = le.AppendUint16(central, uint16(len(r.comment)))
		central = append(central, make([]byte, 8)...)
		central = le.AppendUint32(central, offset)
		central = append(central, r.name+extra+r.comment...)
	}
	at := b.Len()
	b.Write(central)
	count, size, offset := len(records)+end.count, len(central)+end.size, at+end.offset
	if !end.plain {
		at64 := b.Len() + end.locator
		b.WriteString(end64Sig + u64(44) + "\x00\x00\x00\x00" + u32(0) + u32(0) + u64(count) + u64(count) + u64(size) + u64(offset))
		b.WriteString(locator64Sig + u32(0) + u64(at64) + u32(1))
	}
	b.WriteString(endSig + u32(0))
	n := binary.LittleEndian.AppendUint16(nil, uint16(min(uint(count), math.MaxUint16)))
	b.Write(n)
	b.Write(n)
	b.WriteString(u32(int(min(uint(size), math.MaxUint32))) + u32(int(min(uint(offset), math.MaxUint32))))
	b.Write(binary.LittleEndian.AppendUint16(nil, uint16(len(end.comment))))
	b.WriteString(end.comment + end.after)
	return b.Bytes()
}

// fileOf is an archive with this pickle and further records.
func fileOf(body string, records ...zipRecord) []byte {
	return archiveOf(zipEnd{}, slices.Concat([]zipRecord{{name: "m/data.pkl", data: whole(body)}, {name: "m/byteorder", data: "little"}}, records)...)
}

// data is the record of a storage.
func data(key string, n int) zipRecord {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return zipRecord{name: "m/data/" + key, data: string(b)}
}

// A legacyStorage is a storage to write: the count in front may lie.
type legacyStorage struct {
	key   string
	count int
	bytes int
}

func legacyOf(system, body string, storages ...legacyStorage) []byte {
	var keys []string
	rest := ""
	for _, s := range storages {
		keys = append(keys, str(s.key))
		rest += u64(s.count) + data(s.key, s.bytes).data
	}
	return []byte(string(legacyMagic) + string(legacyProtocol) + whole(system) + whole(body) + whole(list(keys...)) + rest)
}

var littleSystem = dict(str("protocol_version"), num(1001), str("little_endian"), "\x88")

func openBytes(file []byte) (*Reader, error) {
	return New("test.pt", bytes.NewReader(file), int64(len(file)))
}

func requireOpens(t testing.TB, file []byte) *Reader {
	r, err := openBytes(file)
	require.NoError(t, err)
	return r
}

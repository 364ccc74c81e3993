package torch

import (
	"bytes"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// fuzzRead bounds the bytes of a tensor that a fuzz target reads.
const fuzzRead = 1 << 16

// requireWhole holds what a Reader promises of a file that it accepted.
func requireWhole(t testing.TB, r *Reader) {
	for i, tn := range r.Tensors() {
		if i > 0 {
			require.Less(t, r.Tensors()[i-1].Name, tn.Name)
		}
		size := int64(tn.DType.Size())
		require.Positive(t, size)
		for _, d := range tn.Shape {
			size *= d
		}
		require.Equal(t, size, tn.Size)
		if n := min(tn.Size, fuzzRead); n > 0 {
			if _, err := tn.ReadAt(make([]byte, n), tn.Size-n); err != nil {
				require.ErrorContains(t, err, "got CRC-32")
			}
		}
	}
	require.NotNil(t, r.Config())
	require.NotNil(t, r.Metadata())
}

// FuzzOpen opens arbitrary bytes: no panic, good errors, and what is accepted
// can be read completely.
func FuzzOpen(f *testing.F) {
	for _, a := range attacks {
		if len(a.file) < 8<<10 {
			f.Add(a.file)
		}
	}
	f.Add(fileOf(one, data("0", 8)))
	f.Add(legacyOf(littleSystem, one, legacyStorage{"0", 2, 8}))
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := openBytes(file)
		if err != nil {
			requireGoodError(t, err)
			return
		}
		requireWhole(t, r)
	})
}

// FuzzPrescan decodes arbitrary pickles. What the pre-scan lets through,
// gopickle must decode without a panic, and the decoder must take at most the
// operations that the pre-scan saw: it ends where the pre-scan did.
func FuzzPrescan(f *testing.F) {
	for _, a := range pickleAttacks() {
		if r, err := openArchive(&source{name: "test.pt", r: bytes.NewReader(a.file), size: int64(len(a.file))}); err == nil {
			if e := r.entries["data.pkl"]; e != nil && e.size < 8<<10 {
				f.Add(a.file[e.data:][:e.size])
			}
		}
	}
	f.Add([]byte(whole(one)))
	f.Add([]byte(whole(dict(str("model"), one, str("config"), name("my", "C")+")\x81"+dict(str("a"), num(1))+"b"))))
	f.Add([]byte("\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01w\x94\x8f\x94(K\x01\x90s."))
	f.Add([]byte("\x80\x02}(U\x01aG\x00\x00\x00\x00\x00\x00\x00\x00C\x01xX\x01\x00\x00\x00b\x88\x85\x86\x87u."))
	f.Fuzz(func(t *testing.T, pkl []byte) {
		src := &source{name: "test.pt", size: 1 << 20}
		n, frames, err := prescan(src, "x", 100, pkl)
		if err != nil {
			requireGoodError(t, err)
			return
		}
		d := &decoder{source: src, where: "x", base: 100, storages: map[string]*storage{}}
		d.locate = func(st *storage, _ int64) error {
			st.data = &record{r: bytes.NewReader(make([]byte, min(st.bytes, fuzzRead))), size: st.bytes}
			return nil
		}
		if err := d.run(pkl[:n], frames); err != nil {
			requireGoodError(t, err)
			return
		}
		require.Equal(t, n, d.in.pos)
		if _, _, err := (&root{decoder: d}).pick(); err != nil {
			requireGoodError(t, err)
		}
	})
}

// FuzzZip opens archives whose directory is arbitrary but lies where the end
// record says, with the right number of entries and, in front, records that
// are arbitrary too. The pickle's checksum is set right where there is one.
func FuzzZip(f *testing.F) {
	for _, a := range zipAttacks() {
		if dirOff, dirSize, _, err := (&source{name: "test.pt", r: bytes.NewReader(a.file), size: int64(len(a.file))}).findDirectory(); err == nil {
			f.Add(a.file[:dirOff], a.file[dirOff:][:dirSize], false)
			f.Add(a.file[:dirOff], a.file[dirOff:][:dirSize], true)
		}
	}
	f.Fuzz(func(t *testing.T, records, directory []byte, plain bool) {
		file := append(slices.Clone(records), directory...)
		count := 0
		for at := 0; at+centralSize <= len(directory) && string(directory[at:][:4]) == centralSig; count++ {
			d := directory[at:]
			at += centralSize + int(le.Uint16(d[28:])) + int(le.Uint16(d[30:])) + int(le.Uint16(d[32:]))
		}
		end := archiveOf(zipEnd{plain: plain, count: count, size: len(directory), offset: len(records), locator: len(file)})
		a, err := openArchive(&source{name: "test.pt", r: bytes.NewReader(append(file, end...)), size: int64(len(file) + len(end))})
		if err != nil {
			requireGoodError(t, err)
			return
		}
		require.Len(t, a.entries, count)
		var sum int64
		for _, e := range a.entries {
			require.LessOrEqual(t, e.data+e.size, int64(len(records)))
			sum += e.size
			if e.size <= fuzzRead {
				e.crc = crc32.ChecksumIEEE(file[e.data:][:e.size])
				got, err := a.whole(e, fuzzRead)
				require.NoError(t, err)
				require.Equal(t, e.size, int64(len(got)))
			}
		}
		require.LessOrEqual(t, sum, int64(len(records)), "records do not overlap")
	})
}

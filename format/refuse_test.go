package format

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHeaderRules breaks each rule of prelude and directory with the header's
// hash made right again, so that the rule itself is reached.
func TestHeaderRules(t *testing.T) {
	good := everyFile(t)
	f, err := OpenBytes(good)
	require.NoError(t, err)
	h := f.Header()
	require.NotZero(t, h.HeaderLength-sec(len(h.Sections), 0), "the example needs padding after its directory")
	for _, c := range headerCases(h) {
		t.Run(c.name, func(t *testing.T) {
			b := slices.Clone(good)
			c.patch(b)
			_, err := OpenBytes(rehash(b))
			requireRefusal(t, err, c.class, c.at, c.got, c.want)
			if c.class != ClassNotTrit && c.class != ClassUnsupported && c.class != ClassBounds {
				b := slices.Clone(good)
				c.patch(b)
				if _, err := OpenBytes(b); ClassOf(err) != c.class {
					require.Equal(t, ClassChecksum, ClassOf(err), "%v", err)
				}
			}
		})
	}
	t.Run("header hash", func(t *testing.T) {
		b := slices.Clone(good)
		b[rec(0, recSHA)] ^= 1
		_, err := OpenBytes(b)
		requireRefusal(t, err, ClassChecksum, preSHA, hexHash(h.SHA256), "want "+hexHash(headerHash(b[:h.HeaderLength])))
	})
}

// requireRefusal demands an error of a class whose message shows offset, value
// and expectation.
func requireRefusal(t *testing.T, err error, class Class, at int64, shown ...string) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, class, ClassOf(err), "%v", err)
	require.Contains(t, err.Error(), fmt.Sprintf("%s: offset %d: ", class, at))
	for _, s := range shown {
		require.Contains(t, err.Error(), s)
	}
	require.NotContains(t, err.Error(), "\n")
}

func TestLaterMinorOpens(t *testing.T) {
	b := everyFile(t)
	both(put16(preMinor, 7), putName(preOptional, 16, "alpha"), putName(preOptional+16, 16, "0123456789abcde-"),
		putName(sec(1, 0), 32, "d-later"))(b)
	both(putName(preOptional, 16, "0123456789abcde-"), putName(preOptional+16, 16, "alpha"))(b)
	f, err := OpenBytes(rehash(b))
	require.NoError(t, err)
	require.Equal(t, uint16(7), f.Header().Minor)
	require.Equal(t, []string{"0123456789abcde-", "alpha"}, f.Header().Optional)
	require.Empty(t, problems(t, f))
	b[f.Header().Sections[1].Offset] ^= 1
	require.Equal(t, ClassChecksum, problems(t, f)[0].Err.Class, "unknown sections are hashed")
}

// payloadHash makes the hashes of every extent right again after a patch.
func payloadHash(t testing.TB, b []byte) []byte {
	f, err := OpenBytes(b)
	require.NoError(t, err)
	for i, info := range f.header.Tensors {
		sum := sha256.Sum256(b[info.Offset : info.Offset+info.Length])
		copy(b[rec(i, recSHA):], sum[:])
		if info.ScaleLength > 0 {
			sum = sha256.Sum256(b[info.ScaleOffset : info.ScaleOffset+info.ScaleLength])
			copy(b[rec(i, recScaleSHA):], sum[:])
		}
	}
	for i, s := range f.header.Sections {
		sum := sha256.Sum256(b[s.Offset : s.Offset+s.Length])
		copy(b[sec(i, secSHA):], sum[:])
	}
	return rehash(b)
}

// TestPayloadRules breaks each rule with all hashes right, and demands exactly
// the one problem from every way to open a file.
func TestPayloadRules(t *testing.T) {
	good := everyFile(t)
	f, err := OpenBytes(good)
	require.NoError(t, err)
	for _, c := range payloadCases(f.Header()) {
		t.Run(c.name, func(t *testing.T) {
			b := slices.Clone(good)
			c.patch(b)
			b = payloadHash(t, b)
			path := filepath.Join(t.TempDir(), "bad.trit")
			require.NoError(t, os.WriteFile(path, b, 0o666))
			for name, f := range openers(t, path, b) {
				list := problems(t, f)
				require.Len(t, list, 1, name)
				p := list[0]
				requireRefusal(t, p, c.class, c.at, c.got, c.want)
				require.Equal(t, c.count, p.Count)
				require.Equal(t, c.tensor, p.Tensor)
				require.Equal(t, c.class == ClassConfig, p.Section != "")
				if c.class == ClassScale {
					tensor, _ := f.Tensor(c.tensor)
					_, err := tensor.Scales()
					requireRefusal(t, err, c.class, c.at, c.got, c.want)
				}
				require.NoError(t, f.Close())
			}
		})
	}
}

func TestAllProblemsAreReported(t *testing.T) {
	b := everyFile(t)
	f, err := OpenBytes(b)
	require.NoError(t, err)
	h := f.Header()
	put16(h.Tensors[tBF16].Offset, 0x7f80)(b)
	put32(h.Tensors[tInt8].ScaleOffset, 0xff800000)(b)
	put8(h.Tensors[tInt8].Offset, 0x80)(b)
	put8(h.Sections[0].Offset, ' ')(b)
	put8(h.Sections[3].Offset, ' ')(b)
	put8(h.Tensors[tF32].Offset+100, 9)(b)
	var got []string
	for _, p := range problems(t, f) {
		got = append(got, fmt.Sprint(p.Err.Class, " ", p.Tensor, p.Section))
	}
	require.Equal(t, []string{
		"bounds ", "checksum a.bf16", "code a.bf16", "checksum embed.weight", "code embed.weight",
		"checksum embed.weight", "scale embed.weight", "checksum config", "config config", "checksum tokenizer",
	}, got)
	_, err = f.Section(SectionConfig)
	require.Equal(t, ClassChecksum, ClassOf(err))
}

// TestEveryCut opens every beginning of the file.
func TestEveryCut(t *testing.T) {
	good := everyFile(t)
	for n := range good {
		_, err := OpenBytes(good[:n:n])
		want := ClassBounds
		if n < len(Magic) {
			want = ClassNotTrit
		}
		require.Equal(t, want, ClassOf(err), "%d bytes: %v", n, err)
		_, err = OpenReaderAt(bytes.NewReader(good[:n]), int64(n))
		require.Equal(t, want, ClassOf(err), "%d bytes: %v", n, err)
		// A reader that ends before the size it was opened with.
		_, err = ReadHeader(bytes.NewReader(good[:n]), int64(len(good)))
		if int64(n) < int64(binary.LittleEndian.Uint64(good[preHeaderLength:])) {
			require.Equal(t, ClassBounds, ClassOf(err), "%d bytes: %v", n, err)
		}
	}
	_, err := OpenBytes(append(slices.Clone(good), 0))
	require.Equal(t, ClassBounds, ClassOf(err))
}

// TestEveryFlip flips every bit of the file, one at a time.
func TestEveryFlip(t *testing.T) {
	b := everyFile(t)
	bits := []byte{1, 2, 4, 8, 16, 32, 64, 128}
	if testing.Short() {
		bits = []byte{1, 0xff}
	}
	for i := range b {
		for _, bit := range bits {
			b[i] ^= bit
			if !refused(b) {
				t.Fatalf("byte %d with 0x%02x flipped passes", i, bit)
			}
			b[i] ^= bit
		}
	}
	require.False(t, refused(b))
}

// refused opens and checks b, and demands that a refusal has a class.
func refused(b []byte) bool {
	f, err := OpenBytes(b)
	if err != nil {
		if ClassOf(err) == "" {
			panic(err)
		}
		return true
	}
	bad := false
	err = f.Check(context.Background(), 1, func(Problem) { bad = true }, nil)
	if err != nil {
		panic(err)
	}
	return bad
}

func TestTinyFileAllocatesLittle(t *testing.T) {
	b := everyFile(t)[:PreludeSize]
	put32(preTensors, MaxTensors)(b)
	put32(preSections, MaxSections)(b)
	put64(preHeaderLength, uint64(headerLength(MaxTensors, MaxSections)))(b)
	put64(preFileLength, uint64(len(b)))(b)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := OpenBytes(b)
	runtime.ReadMemStats(&after)
	require.Equal(t, ClassBounds, ClassOf(err))
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<10))

	// 65,536 records are there, and the first is wrong.
	b = append(b, make([]byte, headerLength(MaxTensors, MaxSections)-PreludeSize)...)
	put64(preFileLength, uint64(len(b)))(b)
	_, err = OpenBytes(rehash(b))
	requireRefusal(t, err, ClassDirectory, PreludeSize+recRank, "tensor 0", "rank is 0")
}

// failingReader gives an error of the system instead of some bytes.
type failingReader struct {
	bytes.Reader
	from int64
}

var errDisk = errors.New("the disk is on fire")

func (r *failingReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > r.from {
		return 0, errDisk
	}
	return r.Reader.ReadAt(p, off)
}

func TestReadErrorsAreNotFormatErrors(t *testing.T) {
	good := everyFile(t)
	for from := int64(0); from < int64(len(good)); from += 100 {
		r := &failingReader{*bytes.NewReader(good), from}
		f, err := OpenReaderAt(r, int64(len(good)))
		if err == nil {
			err = f.Check(context.Background(), 2, func(p Problem) { t.Error(p) }, nil)
		}
		require.ErrorIs(t, err, errDisk)
		require.Empty(t, ClassOf(err))
	}
}

func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "missing"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Open(t.TempDir())
	require.ErrorContains(t, err, "is a folder, want a .trit file")
	empty := filepath.Join(t.TempDir(), "empty.trit")
	require.NoError(t, os.WriteFile(empty, nil, 0o666))
	_, err = Open(empty)
	require.Equal(t, ClassNotTrit, ClassOf(err))
	require.ErrorContains(t, err, "the file is empty")
}

func TestCheckStops(t *testing.T) {
	good := everyFile(t)
	f, err := OpenBytes(good)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, f.Check(ctx, 2, func(p Problem) { t.Error(p) }, nil), context.Canceled)

	var total int64
	require.NoError(t, f.Check(context.Background(), 3, func(p Problem) { t.Error(p) }, func(n int64) { total += n }))
	require.Equal(t, int64(len(good))-f.Header().HeaderLength, total, "progress reaches every byte after the header")
}

func TestInterruptedDownloadIsNamed(t *testing.T) {
	dir := t.TempDir()
	src := source{spec: TensorSpec{"head.weight", Int8, RuleNone, ScaleRow, []int{1, 100000}, 0}, scales: []float32{1}}
	src.data = bytes.Repeat([]byte{1}, 100000)
	b := writeFile(t, filepath.Join(dir, "a.trit"), []source{src}, testSections())
	f, err := OpenBytes(b)
	require.NoError(t, err)
	info := f.Header().Tensors[0]
	clear(b[info.Offset+info.Length-5000 : info.Offset+info.Length])
	list := problems(t, f)
	require.Len(t, list, 1)
	require.True(t, strings.HasSuffix(list[0].Error(), "(its last 5000 bytes are zeros: an interrupted download?)"), list[0].Error())
}

package torch

import (
	"hash/crc32"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

func TestJoinSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 5000).Draw(t, "n")
		all := []byte(data("", n).data)
		cut := rapid.IntRange(0, n).Draw(t, "cut")
		a, b := crc32.ChecksumIEEE(all[:cut]), crc32.ChecksumIEEE(all[cut:])
		require.Equal(t, crc32.ChecksumIEEE(all), joinSums(a, b, int64(n-cut)))
	})
}

// pieces returns the bounds of random pieces that together cover n bytes, some
// of them more than once.
func pieces(t *rapid.T, n int) [][2]int {
	cuts := rapid.SliceOfN(rapid.IntRange(0, n), 0, 20).Draw(t, "cuts")
	var out [][2]int
	last := 0
	for _, c := range append(cuts, n) {
		out = append(out, [2]int{min(last, c), max(last, c)})
		last = c
	}
	return rapid.Permutation(out).Draw(t, "order")
}

// A storage is checked when its last byte has been read, whatever the order and
// however often; every read after that says the same.
func TestChecksum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n = 300
		bad := rapid.Bool().Draw(t, "bad")
		storage := data("0", 4*n)
		if bad {
			storage.crc = 1
		}
		r, err := openBytes(fileOf(dict(str("w"), floats("0", n)), storage))
		require.NoError(t, err)
		tn := r.Tensors()[0]
		seen := make([]bool, 4*n)
		left := 4 * n
		for _, p := range append(pieces(t, 4*n), [2]int{0, 1}) {
			buf := make([]byte, p[1]-p[0])
			for i := p[0]; i < p[1]; i++ {
				if !seen[i] {
					seen[i] = true
					left--
				}
			}
			_, err := tn.ReadAt(buf, int64(p[0]))
			switch {
			case bad && left == 0 && len(buf) > 0:
				var format *tensor.FormatError
				require.ErrorAs(t, err, &format)
				require.Contains(t, format.Got, "CRC-32")
			case p[0] < 4*n:
				require.NoError(t, err)
				require.Equal(t, storage.data[p[0]:p[1]], string(buf))
			}
		}
		require.Zero(t, left)
	})
}

// Tensors that share a storage check it together, views that are not
// contiguous too.
func TestChecksumOfViews(t *testing.T) {
	storage := data("0", 24)
	storage.crc = 1
	six := storageID("FloatStorage", "0", 6)
	r := requireOpens(t, fileOf(dict(str("a"), viewOf(six, 0, ints(2), ints(1)), str("b"), viewOf(six, 2, ints(2, 2), ints(1, 2))), storage))
	a, _ := r.Lookup("a")
	b, _ := r.Lookup("b")
	buf := make([]byte, 16)
	_, err := a.ReadAt(buf[:8], 0)
	require.NoError(t, err)
	_, err = b.ReadAt(buf, 0)
	require.ErrorContains(t, err, "got CRC-32")
	_, err = a.ReadAt(buf[:8], 0)
	require.ErrorContains(t, err, "got CRC-32")
}

func TestChecksumByManyGoroutines(t *testing.T) {
	const n, part = 1 << 16, 1 << 8
	for _, bad := range []uint32{0, 1} {
		storage := data("0", 4*n)
		storage.crc = bad
		r := requireOpens(t, fileOf(dict(str("w"), floats("0", n)), storage))
		tn := r.Tensors()[0]
		var wg sync.WaitGroup
		var mu sync.Mutex
		failed := 0
		order := rand.New(rand.NewPCG(1, 2)).Perm(4 * n / part)
		for w := range 4 {
			wg.Go(func() {
				buf := make([]byte, part)
				for i := w; i < len(order); i += 4 {
					if _, err := tn.ReadAt(buf, int64(order[i]*part)); err != nil {
						mu.Lock()
						failed++
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		require.Equal(t, bad != 0, failed > 0)
		require.LessOrEqual(t, failed, 4)
	}
}

// Reads that leave more holes than are kept are served, and not checked.
func TestChecksumGivesUp(t *testing.T) {
	const n = 2*maxPieces + 10
	storage := data("0", n)
	storage.crc = 1
	r := requireOpens(t, fileOf(dict(str("w"), viewOf(storageID("ByteStorage", "0", n), 0, ints(n), ints(1))), storage))
	tn := r.Tensors()[0]
	buf := make([]byte, 1)
	for i := 0; i < n; i += 2 {
		_, err := tn.ReadAt(buf, int64(i))
		require.NoError(t, err)
	}
	require.ErrorContains(t, readAll(r), "got CRC-32")
}

// BenchmarkReadAt reads a storage of 64 MB in pieces of 256 kB, with its
// checksum and, for the same bytes in a legacy file, without.
func BenchmarkReadAt(b *testing.B) {
	const n = 64 << 20
	body := dict(str("w"), viewOf(storageID("ByteStorage", "0", n), 0, ints(n), ints(1)))
	for name, file := range map[string][]byte{
		"zip":    fileOf(body, data("0", n)),
		"legacy": legacyOf(littleSystem, body, legacyStorage{"0", n, n}),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(n)
			buf := make([]byte, 256<<10)
			for b.Loop() {
				tn := requireOpens(b, file).Tensors()[0]
				for off := int64(0); off < n; off += int64(len(buf)) {
					_, err := tn.ReadAt(buf, off)
					require.NoError(b, err)
				}
			}
		})
	}
}

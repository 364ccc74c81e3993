package driver

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestArgs holds the packing to that of a C struct: here, encoding/binary writes
// the values and the test inserts the padding.
func TestArgs(t *testing.T) {
	var args Args // used again by every case, with what the one before left
	rapid.Check(t, func(t *rapid.T) {
		var want bytes.Buffer
		put := func(size int, v any) {
			for want.Len()%size != 0 {
				want.WriteByte(0)
			}
			require.NoError(t, binary.Write(&want, binary.LittleEndian, v))
		}
		args.Reset()
		n := rapid.IntRange(0, 100).Draw(t, "n")
		for range n {
			v := rapid.Uint64().Draw(t, "v")
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				args.Ptr(Ptr(v))
				put(8, v)
			case 1:
				args.U32(uint32(v))
				put(4, uint32(v))
			case 2:
				args.I32(int32(v))
				put(4, int32(v))
			case 3:
				args.F32(math.Float32frombits(uint32(v)))
				put(4, uint32(v))
			case 4:
				args.U64(v)
				put(8, v)
			}
		}
		require.Equal(t, want.Len(), args.Len())
		require.True(t, bytes.Equal(want.Bytes(), args.Bytes()))
	})
}

// TestArgsBound: arguments past the end are counted and written nowhere.
func TestArgsBound(t *testing.T) {
	var args Args
	for range MaxArgs / 4 {
		args.U32(7)
	}
	require.Equal(t, MaxArgs, args.Len())
	args.U64(9).U32(9)
	require.Equal(t, MaxArgs+12, args.Len())
	require.Equal(t, bytes.Repeat([]byte{7, 0, 0, 0}, MaxArgs/4), args.Bytes())
	require.Equal(t, 4, args.Reset().F32(1).Len())
}

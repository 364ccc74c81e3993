package codebook_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/codebook"
)

func crc(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

// wav builds a file chunk by chunk.
func wav(chunks ...[]byte) []byte {
	out := []byte("RIFF\x00\x00\x00\x00WAVE")
	for _, c := range chunks {
		out = append(out, c...)
	}
	return out
}

func chunk(name string, data []byte) []byte {
	out := binary.LittleEndian.AppendUint32([]byte(name), uint32(len(data)))
	out = append(out, data...)
	if len(data)%2 == 1 {
		out = append(out, 0)
	}
	return out
}

func fmtChunk(tag, channels, bits uint16, rate uint32) []byte {
	le := binary.LittleEndian
	b := le.AppendUint16(le.AppendUint16(nil, tag), channels)
	b = le.AppendUint32(le.AppendUint32(b, rate), rate*uint32(channels*bits/8))
	return chunk("fmt ", le.AppendUint16(le.AppendUint16(b, channels*bits/8), bits))
}

func TestReadWAV(t *testing.T) {
	le := binary.LittleEndian
	floats := le.AppendUint32(le.AppendUint32(nil, math.Float32bits(.25)), math.Float32bits(-1.5))
	doubles := le.AppendUint64(nil, math.Float64bits(.125))
	extensible := append(append([]byte{}, fmtChunk(0xfffe, 1, 24, 48000)[8:]...), make([]byte, 24)...)
	extensible[24] = 1
	for name, c := range map[string]struct {
		file []byte
		want []float32
	}{
		"8 bits":     {wav(fmtChunk(1, 1, 8, 8000), chunk("data", []byte{0, 128, 255})), []float32{-1, 0, 127.0 / 128}},
		"16 bits":    {wav(fmtChunk(1, 2, 16, 8000), chunk("data", []byte{0, 0x80, 0xff, 0x7f})), []float32{-1, 32767.0 / 32768}},
		"24 bits":    {wav(fmtChunk(1, 1, 24, 8000), chunk("data", []byte{0, 0, 0x80, 1, 0, 0})), []float32{-1, 1.0 / (1 << 23)}},
		"32 bits":    {wav(fmtChunk(1, 1, 32, 8000), chunk("data", []byte{0, 0, 0, 0x80, 0, 0, 0, 0x40})), []float32{-1, .5}},
		"floats":     {wav(fmtChunk(3, 1, 32, 8000), chunk("data", floats)), []float32{.25, -1.5}},
		"doubles":    {wav(fmtChunk(3, 1, 64, 8000), chunk("data", doubles)), []float32{.125}},
		"extensible": {wav(chunk("JUNK", []byte{1}), chunk("fmt ", extensible), chunk("LIST", nil), chunk("data", []byte{0, 0, 0x40})), []float32{.5}},
	} {
		s, err := codebook.ReadWAV(c.file)
		require.NoError(t, err, name)
		require.Equal(t, c.want, s.Samples, name)
	}
}

func TestReadWAVRefuses(t *testing.T) {
	data := chunk("data", make([]byte, 4))
	wrongAlign := fmtChunk(1, 1, 16, 8000)
	wrongAlign[20] = 3
	for want, file := range map[string][]byte{
		"a file that begins with \"OggS\"":                      []byte("OggS"),
		"WAV: data chunk: got the end of the file":              wav(fmtChunk(1, 1, 16, 8000)),
		"samples before the chunk fmt":                          wav(data),
		"WAV: chunk fmt: got a second one":                      wav(fmtChunk(1, 1, 16, 8000), fmtChunk(1, 1, 16, 8000), data),
		"fmt: length: got 4, want at least 16":                  wav(chunk("fmt ", make([]byte, 4)), data),
		"fmt: length: got 16, want at least 40":                 wav(fmtChunk(0xfffe, 1, 16, 8000), data),
		"format 2 with 4 bits is not supported":                 wav(fmtChunk(2, 1, 4, 8000), data),
		"format 1 with 12 bits is not supported":                wav(fmtChunk(1, 1, 12, 8000), data),
		"0 channels is not supported, want 1 to 8":              wav(fmtChunk(1, 0, 16, 8000), data),
		"0 samples a second is not supported":                   wav(fmtChunk(1, 1, 16, 0), data),
		"block align: got 3, want 2 for 1 channels of 16 bits":  wav(wrongAlign, data),
		"chunk \"data\": got 4294967295 bytes where 4 follow":   append(wav(fmtChunk(1, 1, 16, 8000)), "data\xff\xff\xff\xff\x00\x00\x00\x00"...),
		"data chunk: got 3 bytes, want a multiple of 2":         wav(fmtChunk(1, 1, 16, 8000), chunk("data", make([]byte, 3))),
		"WAV: sample 0: got NaN, want a finite number":          wav(fmtChunk(3, 1, 32, 8000), chunk("data", []byte{0, 0, 0xc0, 0x7f})),
		"WAV: sample 0: got +Inf, want a finite number":         wav(fmtChunk(3, 1, 64, 8000), chunk("data", binary.LittleEndian.AppendUint64(nil, math.Float64bits(1e300)))),
		"chunk \"JUNK\": got 100 bytes where 0 follow":          append(wav(), "JUNK\x64\x00\x00\x00"...),
		"WAV: data chunk: got the end of the file, want sample": wav(chunk("JUNK", nil)),
	} {
		_, err := codebook.ReadWAV(file)
		require.ErrorContains(t, err, want)
		var malformed *codebook.FormatError
		var unsupported *codebook.UnsupportedError
		require.True(t, errors.As(err, &malformed) || errors.As(err, &unsupported))
	}
}

func TestWriteWAV(t *testing.T) {
	s := &codebook.Sound{Rate: 16000, Channels: 2, Samples: []float32{-2, -1, 0, 1.0 / 65536, 3.0 / 65536, 2}}
	var b bytes.Buffer
	require.NoError(t, codebook.WriteWAV(&b, s, false))
	got, err := codebook.ReadWAV(b.Bytes())
	require.NoError(t, err)
	require.Equal(t, &codebook.Sound{Rate: 16000, Channels: 2, Samples: []float32{-1, -1, 0, 0, 2.0 / 32768, 32767.0 / 32768}}, got)
	b.Reset()
	require.NoError(t, codebook.WriteWAV(&b, s, true))
	got, err = codebook.ReadWAV(b.Bytes())
	require.NoError(t, err)
	require.Equal(t, s, got)
	require.ErrorContains(t, codebook.WriteWAV(&b, &codebook.Sound{Rate: 1, Channels: 9}, true), "9 channels")
}

// FuzzReadWAV: whatever the bytes, a sound or one of the two errors, and a sound
// that can be written can be read again.
func FuzzReadWAV(f *testing.F) {
	f.Add(wav(fmtChunk(1, 1, 8, 8000), chunk("data", []byte{0, 128, 255})))
	f.Add(wav(fmtChunk(3, 2, 32, 8000), chunk("LIST", []byte{1}), chunk("data", make([]byte, 16))))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := codebook.ReadWAV(data)
		if err != nil {
			var malformed *codebook.FormatError
			var unsupported *codebook.UnsupportedError
			require.True(t, errors.As(err, &malformed) || errors.As(err, &unsupported), "%v", err)
			return
		}
		var b bytes.Buffer
		require.NoError(t, codebook.WriteWAV(&b, s, true))
		again, err := codebook.ReadWAV(b.Bytes())
		require.NoError(t, err)
		require.Equal(t, s, again)
	})
}

// FuzzParse: whatever the bytes of a section, a codebook that writes the same
// bytes, or an error.
func FuzzParse(f *testing.F) {
	for _, h := range []codebook.Header{imageHeader, greyHeader, soundHeader, hiddenCodes} {
		data, err := book(f, h).Section()
		require.NoError(f, err)
		f.Add(string(h.Kind), data)
	}
	f.Fuzz(func(t *testing.T, kind string, data []byte) {
		c, err := codebook.Parse(codebook.Kind(kind), data)
		if err != nil {
			return
		}
		again, err := c.Section()
		require.NoError(t, err)
		require.Equal(t, data, again)
	})
}

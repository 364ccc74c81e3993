package codebook

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/tritter-ai/tritter/kernels"
)

// The format tags of WAV files that are read.
const (
	wavePCM        = 1
	waveFloat      = 3
	waveExtensible = 0xfffe
)

// waveFormat is the fmt chunk of a WAV file.
type waveFormat struct {
	tag, channels, bits int
	rate                int
}

// ReadWAV decodes a WAV file: integers of 8, 16, 24 or 32 bits, or floats of 32 or
// 64 bits. Integers become numbers in [-1, 1). The error is a *FormatError or an
// *UnsupportedError.
func ReadWAV(data []byte) (*Sound, error) {
	bad := func(field, got, want string) error { return &FormatError{Field: "WAV: " + field, Got: got, Want: want} }
	if len(data) < 12 || string(data[:4]) != "RIFF" || string(data[8:12]) != "WAVE" {
		return nil, &UnsupportedError{Field: "sound", Got: fmt.Sprintf("a file that begins with %q", data[:min(len(data), 12)]), Want: "WAV"}
	}
	var f *waveFormat
	for rest := data[12:]; ; {
		if len(rest) < 8 {
			return nil, bad("data chunk", "the end of the file", "samples; is the file cut short?")
		}
		name, size := string(rest[:4]), int64(binary.LittleEndian.Uint32(rest[4:]))
		rest = rest[8:]
		if size > int64(len(rest)) {
			return nil, bad(fmt.Sprintf("chunk %q", name), fmt.Sprintf("%d bytes where %d follow", size, len(rest)), "a chunk inside the file; is it cut short?")
		}
		chunk := rest[:size]
		switch name {
		case "fmt ":
			if f != nil {
				return nil, bad("chunk fmt", "a second one", "one")
			}
			var err error
			if f, err = parseWaveFormat(chunk); err != nil {
				return nil, err
			}
		case "data":
			if f == nil {
				return nil, bad("data chunk", "samples before the chunk fmt", "fmt first")
			}
			return f.samples(chunk)
		}
		rest = rest[min(size+size&1, int64(len(rest))):] // chunks have even lengths
	}
}

func parseWaveFormat(chunk []byte) (*waveFormat, error) {
	bad := func(field, got, want string) error {
		return &FormatError{Field: "WAV: fmt: " + field, Got: got, Want: want}
	}
	if len(chunk) < 16 {
		return nil, bad("length", fmt.Sprint(len(chunk)), "at least 16")
	}
	le := binary.LittleEndian
	f := &waveFormat{tag: int(le.Uint16(chunk)), channels: int(le.Uint16(chunk[2:])), bits: int(le.Uint16(chunk[14:]))}
	rate, align := le.Uint32(chunk[4:]), int(le.Uint16(chunk[12:]))
	if f.tag == waveExtensible {
		if len(chunk) < 40 {
			return nil, bad("length", fmt.Sprint(len(chunk)), "at least 40 for the extensible format")
		}
		f.tag = int(le.Uint16(chunk[24:]))
	}
	ok := f.tag == wavePCM && (f.bits == 8 || f.bits == 16 || f.bits == 24 || f.bits == 32) || f.tag == waveFloat && (f.bits == 32 || f.bits == 64)
	switch {
	case !ok:
		return nil, &UnsupportedError{Field: "WAV: fmt", Got: fmt.Sprintf("format %d with %d bits", f.tag, f.bits), Want: "integers (1) of 8, 16, 24 or 32 bits, or floats (3) of 32 or 64"}
	case f.channels < 1 || f.channels > MaxChannels:
		return nil, &UnsupportedError{Field: "WAV: fmt", Got: fmt.Sprintf("%d channels", f.channels), Want: fmt.Sprintf("1 to %d", MaxChannels)}
	case rate < 1 || rate > MaxSampleRate:
		return nil, &UnsupportedError{Field: "WAV: fmt", Got: fmt.Sprintf("%d samples a second", rate), Want: fmt.Sprintf("1 to %d", MaxSampleRate)}
	case align != f.channels*f.bits/8:
		return nil, bad("block align", fmt.Sprint(align), fmt.Sprintf("%d for %d channels of %d bits", f.channels*f.bits/8, f.channels, f.bits))
	}
	f.rate = int(rate)
	return f, nil
}

// samples decodes the data chunk.
func (f *waveFormat) samples(data []byte) (*Sound, error) {
	size := f.bits / 8
	if len(data)%(size*f.channels) != 0 {
		return nil, &FormatError{Field: "WAV: data chunk", Got: fmt.Sprintf("%d bytes", len(data)), Want: fmt.Sprintf("a multiple of %d, the bytes of all channels of a moment", size*f.channels)}
	}
	s := &Sound{Rate: f.rate, Channels: f.channels, Samples: make([]float32, len(data)/size)}
	le := binary.LittleEndian
	for i := range s.Samples {
		b := data[i*size:]
		var v float32
		switch {
		case f.tag == waveFloat && size == 4:
			v = math.Float32frombits(le.Uint32(b))
		case f.tag == waveFloat:
			v = float32(math.Float64frombits(le.Uint64(b)))
		case size == 1:
			v = float32(int(b[0])-128) / (1 << 7)
		case size == 2:
			v = float32(int16(le.Uint16(b))) / (1 << 15)
		case size == 3:
			v = float32(int32(uint32(b[0])<<8|uint32(b[1])<<16|uint32(b[2])<<24)>>8) / (1 << 23)
		default:
			v = float32(int32(le.Uint32(b))) / (1 << 31)
		}
		if !kernels.Finite(v) {
			return nil, &FormatError{Field: fmt.Sprintf("WAV: sample %d", i), Got: fmt.Sprint(v), Want: "a finite number"}
		}
		s.Samples[i] = v
	}
	return s, nil
}

// WriteWAV writes a sound as integers of 16 bits, rounded and limited to their
// range, or, with float, as floats of 32 bits, which keep every sample.
func WriteWAV(w io.Writer, s *Sound, float bool) error {
	tag, size := wavePCM, 2
	if float {
		tag, size = waveFloat, 4
	}
	n := int64(len(s.Samples)) * int64(size)
	if s.Channels < 1 || s.Channels > MaxChannels || s.Rate < 1 || s.Rate > MaxSampleRate || len(s.Samples)%s.Channels != 0 || n > math.MaxUint32-36 {
		return fmt.Errorf("a sound of %d samples in %d channels, %d a second, want 1 to %d channels, whole moments, 1 to %d a second, and less than 4 GiB",
			len(s.Samples), s.Channels, s.Rate, MaxChannels, MaxSampleRate)
	}
	le := binary.LittleEndian
	out := make([]byte, 0, 44+n)
	out = le.AppendUint32(append(out, "RIFF"...), uint32(36+n))
	out = le.AppendUint32(append(out, "WAVEfmt "...), 16)
	out = le.AppendUint16(le.AppendUint16(out, uint16(tag)), uint16(s.Channels))
	out = le.AppendUint32(le.AppendUint32(out, uint32(s.Rate)), uint32(s.Rate*s.Channels*size))
	out = le.AppendUint16(le.AppendUint16(out, uint16(s.Channels*size)), uint16(8*size))
	out = le.AppendUint32(append(out, "data"...), uint32(n))
	for _, v := range s.Samples {
		if float {
			out = le.AppendUint32(out, math.Float32bits(v))
		} else {
			out = le.AppendUint16(out, uint16(int16(min(max(math.RoundToEven(float64(v)*(1<<15)), -1<<15), 1<<15-1))))
		}
	}
	_, err := w.Write(out)
	return err
}

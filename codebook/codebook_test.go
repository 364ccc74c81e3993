package codebook_test

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tritter-ai/tritter/codebook"
	"github.com/tritter-ai/tritter/format"
)

// vectors draws codes x dim values that 8 bits of a pixel, or 16 of a sample,
// show exactly.
func vectors(h codebook.Header, levels int) []float32 {
	rng := rand.New(rand.NewPCG(uint64(h.Codes), uint64(h.Dim)))
	out := make([]float32, h.Codes*h.Dim)
	for i := range out {
		u := float32(rng.IntN(levels+1)) / float32(levels)
		if h.Kind == codebook.Audio || h.Range == codebook.Signed {
			u = float32(2*u) - 1
		}
		out[i] = u
	}
	return out
}

func encode(values []float32, dtype string) []byte {
	var data []byte
	for _, v := range values {
		bits := math.Float32bits(v)
		if dtype == "bf16" {
			data = binary.LittleEndian.AppendUint16(data, uint16(bits>>16))
		} else {
			data = binary.LittleEndian.AppendUint32(data, bits)
		}
	}
	return data
}

var (
	imageHeader = codebook.Header{Kind: codebook.Image, Channels: 3, Codes: 64, Dim: 48, DType: "f32", FirstID: 4096, PatchSize: 4, Range: codebook.Unit}
	greyHeader  = codebook.Header{Kind: codebook.Image, Channels: 1, Codes: 20, Dim: 9, DType: "bf16", FirstID: 8, PatchSize: 3, Range: codebook.Signed}
	soundHeader = codebook.Header{Kind: codebook.Audio, Channels: 1, Codes: 40, Dim: 16, DType: "f32", FirstID: 5000, FrameLength: 16, SampleRate: 8000}
	stereo      = codebook.Header{Kind: codebook.Audio, Channels: 2, Codes: 9, Dim: 10, DType: "f32", FirstID: 9, FrameLength: 5, SampleRate: 44100}
	hiddenCodes = codebook.Header{Kind: codebook.Embedding, Codes: 7, Dim: 33, DType: "bf16", FirstID: 3}
)

func book(t testing.TB, h codebook.Header) *codebook.Codebook {
	t.Helper()
	levels := 255
	if h.Kind == codebook.Audio {
		levels = 1 << 8 // -1 to 1 in steps of 2^-7
	}
	c, err := codebook.New(h, encode(vectors(h, levels), h.DType))
	require.NoError(t, err)
	return c
}

// Any ids, decoded to a file and read again, are the same ids.
func TestIDsRoundTrip(t *testing.T) {
	for _, h := range []codebook.Header{imageHeader, greyHeader, soundHeader, stereo} {
		c := book(t, h)
		_, _, lossy, err := c.Lossy()
		require.NoError(t, err)
		require.False(t, lossy)
		rapid.Check(t, func(t *rapid.T) {
			columns, rows := rapid.IntRange(1, 6).Draw(t, "columns"), rapid.IntRange(1, 5).Draw(t, "rows")
			var ids []int
			for range rows {
				for range columns {
					ids = append(ids, h.FirstID+rapid.IntRange(0, h.Codes-1).Draw(t, "code"))
				}
				if h.Kind == codebook.Image {
					ids = append(ids, h.FirstID+h.Codes)
				}
			}
			content, err := c.Decode(ids)
			require.NoError(t, err)
			var file bytes.Buffer
			if h.Kind == codebook.Image {
				img := content.(image.Image)
				require.Equal(t, image.Pt(columns*h.PatchSize, rows*h.PatchSize), img.Bounds().Size())
				require.NoError(t, png.Encode(&file, img))
			} else {
				require.NoError(t, codebook.WriteWAV(&file, content.(*codebook.Sound), rapid.Bool().Draw(t, "float")))
			}
			for _, again := range []any{content, file.Bytes()} {
				got, err := c.Encode(again)
				require.NoError(t, err)
				require.Equal(t, ids, got)
			}
		})
	}
}

// An image made of a codebook's patches comes back pixel for pixel, whatever the
// type of the file's pixels, and one of other pixels becomes the nearest patches.
func TestImage(t *testing.T) {
	c := book(t, imageHeader)
	made, err := c.Decode([]int{4097, 4098, 4160, 4099, 4099})
	require.NoError(t, err)
	require.Equal(t, image.Rect(0, 0, 8, 8), made.(image.Image).Bounds())
	first := vectors(imageHeader, 255)[1*48:]
	require.Equal(t, color.NRGBA{uint8(first[3]*255 + .5), uint8(first[4]*255 + .5), uint8(first[5]*255 + .5), 255}, made.(*image.NRGBA).NRGBAAt(1, 0))
	deep := image.NewRGBA64(image.Rect(3, 5, 11, 13))
	for y := range 8 {
		for x := range 8 {
			deep.Set(3+x, 5+y, made.(*image.NRGBA).At(x, y))
		}
	}
	ids, err := c.Encode(deep)
	require.NoError(t, err)
	require.Equal(t, []int{4097, 4098, 4160, 4099, 4099, 4160}, ids)
	// A lighter copy still has the same patches nearest; the edge is repeated.
	noisy := image.NewNRGBA(image.Rect(0, 0, 7, 8))
	for i := range noisy.Pix {
		noisy.Pix[i] = 0xff
	}
	for y := range 8 {
		for x := range 7 {
			v := made.(*image.NRGBA).NRGBAAt(x, y)
			v.R = uint8(min(255, int(v.R)+3))
			noisy.SetNRGBA(x, y, v)
		}
	}
	got, err := c.Encode(noisy)
	require.NoError(t, err)
	require.Equal(t, ids, got)
	var file bytes.Buffer
	require.NoError(t, jpeg.Encode(&file, noisy, &jpeg.Options{Quality: 100}))
	got, err = c.Encode(file.Bytes())
	require.NoError(t, err)
	require.Len(t, got, 6)
	require.Equal(t, 4160, got[2])

	// Rows of unequal length are filled up with black.
	ragged, err := c.Decode([]int{4096, 4160, 4160, 4096, 4097})
	require.NoError(t, err)
	require.Equal(t, image.Rect(0, 0, 8, 12), ragged.(image.Image).Bounds())
	require.Equal(t, color.NRGBA{A: 255}, ragged.(*image.NRGBA).NRGBAAt(5, 0))
	require.Equal(t, color.NRGBA{A: 255}, ragged.(*image.NRGBA).NRGBAAt(0, 5))
}

func TestSound(t *testing.T) {
	c := book(t, soundHeader)
	s, err := c.Decode([]int{5003, 5000})
	require.NoError(t, err)
	sound := s.(*codebook.Sound)
	require.Equal(t, 8000, sound.Rate)
	require.Equal(t, vectors(soundHeader, 1<<8)[3*16:4*16], sound.Samples[:16])
	// Two channels of the same sound are mixed to it; a last frame may be short.
	both := &codebook.Sound{Rate: 8000, Channels: 2}
	for _, v := range sound.Samples {
		both.Samples = append(both.Samples, v, v)
	}
	ids, err := c.Encode(both)
	require.NoError(t, err)
	require.Equal(t, []int{5003, 5000}, ids)
	ids, err = c.Encode(&codebook.Sound{Rate: 8000, Channels: 1, Samples: sound.Samples[:17]})
	require.NoError(t, err)
	require.Len(t, ids, 2)
	two := book(t, stereo)
	s, err = two.Decode([]int{11})
	require.NoError(t, err)
	mono := &codebook.Sound{Rate: 44100, Channels: 1, Samples: []float32{.5}}
	_, err = two.Encode(mono)
	require.NoError(t, err)
	require.Equal(t, 2, s.(*codebook.Sound).Channels)

	for want, bad := range map[string]*codebook.Sound{
		"the sound has 44100 samples a second, want 8000": {Rate: 44100, Channels: 1},
		"3 samples in 2 channels":                         {Rate: 8000, Channels: 2, Samples: make([]float32, 3)},
	} {
		_, err := c.Encode(bad)
		require.ErrorContains(t, err, want)
	}
	_, err = two.Encode(&codebook.Sound{Rate: 44100, Channels: 3, Samples: make([]float32, 3)})
	require.ErrorContains(t, err, "the sound has 3 channels, want 2")
}

func TestSection(t *testing.T) {
	for _, h := range []codebook.Header{imageHeader, greyHeader, soundHeader, stereo, hiddenCodes} {
		c := book(t, h)
		data, err := c.Section()
		require.NoError(t, err)
		again, err := codebook.Parse(h.Kind, data)
		require.NoError(t, err)
		require.Equal(t, h, again.Header)
		require.Equal(t, c.Rows(), again.Rows())
		// No byte of header and padding may change, no section be shorter or longer.
		start := len(data) - len(c.Rows().Data)
		require.Zero(t, start%64)
		for i := range start {
			damaged := bytes.Clone(data)
			damaged[i] ^= 0x10
			if got, err := codebook.Parse(h.Kind, damaged); err == nil {
				require.NotEqual(t, h, got.Header, "byte %d", i) // a digit of a number that is free
			} else {
				var fe *format.FormatError
				require.ErrorAs(t, err, &fe)
				require.Equal(t, format.ClassConfig, fe.Class)
			}
		}
		for _, n := range []int{0, 7, 8, 30, start - 1, start, len(data) - 1} {
			_, err := codebook.Parse(h.Kind, data[:n])
			require.Error(t, err)
		}
		_, err = codebook.Parse(h.Kind, append(bytes.Clone(data), 0))
		require.Error(t, err)
	}
	data, err := book(t, imageHeader).Section()
	require.NoError(t, err)
	_, err = codebook.Parse(codebook.Audio, data)
	require.ErrorContains(t, err, "kind is image, want audio, as the name of the section says")
	binary.LittleEndian.PutUint32(data[len(data)-4:], 0x7f800000)
	_, err = codebook.Parse(codebook.Image, data)
	require.ErrorContains(t, err, "element 47 of code 63 is +Inf, want a finite number")
}

func TestHeaderErrors(t *testing.T) {
	for want, change := range map[string]func(*codebook.Header){
		"codes is 0, want 1 to":                              func(h *codebook.Header) { h.Codes = 0 },
		"dim is 47, want 48, as patch_size x patch_size x c": func(h *codebook.Header) { h.Dim = 47 },
		"channels is 2, want 1 (grey) or 3":                  func(h *codebook.Header) { h.Channels = 2 },
		`range is "wide", want unit or signed`:               func(h *codebook.Header) { h.Range = "wide" },
		`dtype is "f64", want f32, f16 or bf16`:              func(h *codebook.Header) { h.DType = "f64" },
		"first_id is -1, want 0 to":                          func(h *codebook.Header) { h.FirstID = -1 },
		"patch_size is 0, want 1 to 1024":                    func(h *codebook.Header) { h.PatchSize = 0 },
		"sample_rate is set, want it absent":                 func(h *codebook.Header) { h.SampleRate = 1 },
		`kind is "video", want audio, embedding or image`:    func(h *codebook.Header) { h.Kind = "video" },
	} {
		h := imageHeader
		change(&h)
		_, err := codebook.New(h, nil)
		require.ErrorContains(t, err, want)
	}
	_, err := codebook.New(imageHeader, make([]byte, 5))
	require.ErrorContains(t, err, "5 bytes of vectors, want 12288: 64 x 48 of f32")
}

func TestCheckIDs(t *testing.T) {
	img, snd, hid := book(t, imageHeader), book(t, soundHeader), book(t, hiddenCodes)
	require.NoError(t, codebook.CheckIDs([]*codebook.Codebook{img, snd, hid}, 4096, 5040))
	for want, check := range map[string]func() error{
		"the audio codebook has the ids 5000 to 5039, but vocab_size is 5039: want a model of vocab_size 5040": func() error { return codebook.CheckIDs([]*codebook.Codebook{img, snd}, 4096, 5039) },
		"the image codebook begins at id 4096, want first_id 4097 or more":                                     func() error { return codebook.CheckIDs([]*codebook.Codebook{img}, 4097, 9999) },
		"the ids 4096 to 4160 of the image codebook and 4096 to 4160 of the image codebook overlap, want first_id 4161": func() error {
			return codebook.CheckIDs([]*codebook.Codebook{img, img}, 8, 9999)
		},
		"the embedding codebook has the ids 3 to 9, but vocab_size is 9": func() error { return codebook.CheckIDs([]*codebook.Codebook{hid}, 8, 9) },
	} {
		require.ErrorContains(t, check(), want)
	}
}

// A few ids of long frames do not ask for more memory than a machine has, and long
// frames can be tried.
func TestLongFrames(t *testing.T) {
	h := codebook.Header{Kind: codebook.Audio, Channels: 1, Codes: 2, Dim: 1 << 20, DType: "bf16", FirstID: 8, FrameLength: 1 << 20, SampleRate: 8000}
	data := make([]byte, 4<<20)
	data[len(data)-1] = 0x3f
	c, err := codebook.New(h, data)
	require.NoError(t, err)
	_, err = c.Decode(slices.Repeat([]int{8}, 257))
	require.EqualError(t, err, "257 frames of 1048576 samples, want at most 268435456 samples in all")
	_, _, lossy, err := c.Lossy()
	require.NoError(t, err)
	require.False(t, lossy)
}

func TestLossy(t *testing.T) {
	data := encode(vectors(imageHeader, 255), "f32")
	copy(data[9*192:10*192], data[4*192:5*192])
	c, err := codebook.New(imageHeader, data)
	require.NoError(t, err)
	code, becomes, ok, err := c.Lossy()
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, []int{9, 4}, []int{code, becomes})
	_, _, ok, err = book(t, hiddenCodes).Lossy()
	require.NoError(t, err)
	require.False(t, ok)
}

func TestWrongContent(t *testing.T) {
	img, snd, hid := book(t, imageHeader), book(t, soundHeader), book(t, hiddenCodes)
	var huge bytes.Buffer
	require.NoError(t, png.Encode(&huge, image.NewGray(image.Rect(0, 0, 1, 1))))
	bomb := huge.Bytes()
	binary.BigEndian.PutUint32(bomb[16:], 1<<30)
	for want, call := range map[string]func() error{
		"an image is a int, want":                                   func() error { _, err := img.Encode(5); return err },
		"a sound is a string, want":                                 func() error { _, err := snd.Encode("x"); return err },
		"image: a file that begins with \"GIF8\"":                   func() error { _, err := img.Encode([]byte("GIF8")); return err },
		"PNG: got refused":                                          func() error { _, err := img.Encode(bomb); return err },
		"id 4161 at position 0, want 4096 to 4160":                  func() error { _, err := img.Decode([]int{4161}); return err },
		"no patch among the ids":                                    func() error { _, err := img.Decode([]int{4160}); return err },
		"a codebook of kind embedding encodes no files":             func() error { _, err := hid.Encode([]byte{}); return err },
		"a codebook of kind embedding decodes to no file":           func() error { _, err := hid.Decode([]int{3}); return err },
		"an image of 0 x 0 pixels, want at least 1":                 func() error { _, err := img.Encode(image.NewGray(image.Rect(0, 0, 0, 0))); return err },
		"100000 x 100001 patches of 4 x 4 pixels, want at most 335": func() error { _, err := img.Decode(wide()); return err },
	} {
		require.ErrorContains(t, call(), want)
	}
	// A picture larger than the limit is refused before its pixels are decoded.
	big := hugePNG(1<<16, 1<<16)
	_, err := codebook.ReadImage(big)
	var unsupported *codebook.UnsupportedError
	require.ErrorAs(t, err, &unsupported)
	require.ErrorContains(t, err, "65536 x 65536 pixels is not supported, want at most 33554432 pixels")
}

// wide is ids of few patches that ask for a large image: one long row, many empty
// ones.
func wide() []int {
	ids := make([]int, 200000)
	for i := range ids {
		ids[i] = 4096
		if i >= 100000 {
			ids[i] = 4160
		}
	}
	return append(ids, 4096)
}

// hugePNG is the header of a picture without its pixels.
func hugePNG(width, height uint32) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		panic(err)
	}
	data := b.Bytes()
	binary.BigEndian.PutUint32(data[16:], width)
	binary.BigEndian.PutUint32(data[20:], height)
	binary.BigEndian.PutUint32(data[29:], crc(data[12:29]))
	return data
}

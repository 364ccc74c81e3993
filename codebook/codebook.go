// Package codebook turns images and sounds into codes and back by vector
// quantization: a codebook is a table of vectors, an image is cut into patches, a
// sound into frames, and each of these becomes the id of the nearest vector
// (spec/numerics.md, section 17, Euclidean). Decoding puts the vectors in their
// places. A codebook over hidden states, kind embedding, stands for tokens
// instead.
//
// Codebooks are sections of a .trit file (spec/trit-v1.md, section 18). [Parse]
// reads one, [Codebook.Section] writes it; tritter-convert imports them.
//
// Images are read from PNG and JPEG and sounds from WAV; see [ReadImage] and
// [ReadWAV].
package codebook

import (
	"encoding/binary"
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/kernels/ref"
	"github.com/tritter-ai/tritter/nearest"
)

// Kind is what the vectors of a codebook stand for.
type Kind string

// The kinds of codebook.
const (
	Image     Kind = "image"     // square patches of an image
	Audio     Kind = "audio"     // stretches of a sound
	Embedding Kind = "embedding" // hidden states of a model
)

// Kinds lists every kind.
var Kinds = []Kind{Audio, Embedding, Image}

// SectionName is the name of the section that holds a codebook of this kind, ""
// for another kind.
func (k Kind) SectionName() string {
	return map[Kind]string{Audio: format.SectionCodebookAudio, Embedding: format.SectionCodebookEmbedding, Image: format.SectionCodebookImage}[k]
}

// Range says which numbers stand for the darkest and the brightest value of a
// pixel.
type Range string

// The ranges of image codebooks.
const (
	Unit   Range = "unit"   // 0 to 1
	Signed Range = "signed" // -1 to 1
)

// Limits on a codebook. They keep every size far inside 63 bits.
const (
	MaxCodes      = 1<<24 - 2 // with the end of a row, fewer than the ids of a vocabulary
	MaxDim        = 1 << 24
	MaxPatchSize  = 1024
	MaxFrame      = 1 << 20
	MaxSampleRate = 1 << 20
	MaxChannels   = 8
)

// Header describes a codebook. Fields of other kinds are zero.
type Header struct {
	Channels    int    `json:"channels,omitempty"`     // image: 1 (grey) or 3 (red, green, blue); audio: 1 to 8
	Codes       int    `json:"codes"`                  // vectors
	Dim         int    `json:"dim"`                    // elements of a vector
	DType       string `json:"dtype"`                  // of the elements: f32, f16 or bf16
	FirstID     int    `json:"first_id"`               // token id of code 0; the others follow
	FrameLength int    `json:"frame_length,omitempty"` // audio: samples of a frame in each channel
	Kind        Kind   `json:"kind"`
	PatchSize   int    `json:"patch_size,omitempty"`  // image: width and height of a patch in pixels
	Range       Range  `json:"range,omitempty"`       // image
	SampleRate  int    `json:"sample_rate,omitempty"` // audio: samples a second in each channel
}

var dtypes = map[string]kernels.DType{"f32": kernels.F32, "f16": kernels.F16, "bf16": kernels.BF16}

// Validate reports everything that is wrong with h.
func (h *Header) Validate() error {
	var errs []error
	want := func(name string, v, lo, hi int) {
		if v < lo || v > hi {
			errs = append(errs, fmt.Errorf("%s is %d, want %d to %d", name, v, lo, hi))
		}
	}
	absent := func(name string, present bool) {
		if present {
			errs = append(errs, fmt.Errorf("%s is set, want it absent in a codebook of kind %s", name, h.Kind))
		}
	}
	want("codes", h.Codes, 1, MaxCodes)
	want("dim", h.Dim, 1, MaxDim)
	want("first_id", h.FirstID, 0, MaxCodes)
	if _, ok := dtypes[h.DType]; !ok {
		errs = append(errs, fmt.Errorf("dtype is %q, want f32, f16 or bf16", h.DType))
	}
	dim := h.Dim
	switch h.Kind {
	case Image:
		want("patch_size", h.PatchSize, 1, MaxPatchSize)
		if h.Channels != 1 && h.Channels != 3 {
			errs = append(errs, fmt.Errorf("channels is %d, want 1 (grey) or 3 (red, green, blue)", h.Channels))
		}
		if h.Range != Unit && h.Range != Signed {
			errs = append(errs, fmt.Errorf("range is %q, want unit or signed", h.Range))
		}
		dim = h.PatchSize * h.PatchSize * h.Channels
	case Audio:
		want("frame_length", h.FrameLength, 1, MaxFrame)
		want("sample_rate", h.SampleRate, 1, MaxSampleRate)
		want("channels", h.Channels, 1, MaxChannels)
		dim = h.FrameLength * h.Channels
	case Embedding:
	default:
		errs = append(errs, fmt.Errorf("kind is %q, want audio, embedding or image", h.Kind))
	}
	absent("patch_size", h.Kind != Image && h.PatchSize != 0)
	absent("range", h.Kind != Image && h.Range != "")
	absent("frame_length", h.Kind != Audio && h.FrameLength != 0)
	absent("sample_rate", h.Kind != Audio && h.SampleRate != 0)
	absent("channels", h.Kind == Embedding && h.Channels != 0)
	if errs == nil && h.Dim != dim {
		errs = append(errs, fmt.Errorf("dim is %d, want %d, as %s", h.Dim, dim, map[Kind]string{
			Image: "patch_size x patch_size x channels", Audio: "frame_length x channels"}[h.Kind]))
	}
	return errors.Join(errs...)
}

// Codebook is a header and its vectors. It is safe for concurrent use.
type Codebook struct {
	Header
	rows  kernels.Dense
	table func() (*nearest.Table, error)
}

// New returns the codebook of h and its vectors, row-major and little-endian, as
// the dtype says. data is not copied and must not change. The error joins what
// is wrong with the header, or names a length or a value that is wrong.
func New(h Header, data []byte) (*Codebook, error) {
	if err := h.Validate(); err != nil {
		return nil, err
	}
	c := &Codebook{Header: h, rows: kernels.Dense{Rows: h.Codes, Cols: h.Dim, Type: dtypes[h.DType], Data: data}}
	if want := h.Codes * h.Dim * c.rows.Type.Size(); len(data) != want {
		return nil, fmt.Errorf("%d bytes of vectors, want %d: %d x %d of %s", len(data), want, h.Codes, h.Dim, h.DType)
	}
	row := make([]float32, h.Dim)
	for i := range h.Codes {
		ref.Ops{}.EmbedRow(row, &c.rows, i)
		if at := slices.IndexFunc(row, func(v float32) bool { return !kernels.Finite(v) }); at >= 0 {
			return nil, fmt.Errorf("element %d of code %d is %v, want a finite number", at, i, row[at])
		}
	}
	c.table = sync.OnceValues(func() (*nearest.Table, error) {
		return nearest.New(&c.rows, cpu.New(), nearest.Threads(goruntime.GOMAXPROCS(0), nil))
	})
	return c, nil
}

// Rows returns the vectors, [Codes, Dim]. They must not be changed.
func (c *Codebook) Rows() *kernels.Dense { return &c.rows }

// FirstID returns the token id of code 0.
func (c *Codebook) FirstID() int { return c.Header.FirstID }

// IDs returns how many token ids the codebook uses, from FirstID on: one a code
// and, for an image, one more that ends a row of patches.
func (c *Codebook) IDs() int {
	if c.Kind == Image {
		return c.Codes + 1
	}
	return c.Codes
}

// Encode returns the token ids of content: of an [image.Image] or the bytes of a
// PNG or JPEG file for the kind image, of a *[Sound] or the bytes of a WAV file
// for the kind audio.
func (c *Codebook) Encode(content any) ([]int, error) {
	switch c.Kind {
	case Image:
		return c.encodeImage(content)
	case Audio:
		return c.encodeSound(content)
	}
	return nil, fmt.Errorf("a codebook of kind %s encodes no files, want one of kind image or audio", c.Kind)
}

// Decode is the inverse of Encode up to what vector quantization loses: it returns
// an *image.NRGBA or a *[Sound]. Any ids of the codebook can be decoded. The error
// names an id that is not one of them.
func (c *Codebook) Decode(ids []int) (any, error) {
	codes := make([]int, len(ids))
	for i, id := range ids {
		codes[i] = id - c.Header.FirstID
		if codes[i] < 0 || codes[i] >= c.IDs() {
			return nil, fmt.Errorf("id %d at position %d, want %d to %d, the ids of the %s codebook", id, i, c.Header.FirstID, c.Header.FirstID+c.IDs()-1, c.Kind)
		}
	}
	switch c.Kind {
	case Image:
		return c.decodeImage(codes)
	case Audio:
		return c.decodeSound(codes)
	}
	return nil, fmt.Errorf("a codebook of kind %s decodes to no file, want one of kind image or audio", c.Kind)
}

// assign returns the ids of the codes nearest to the vectors x.
func (c *Codebook) assign(x []float32) ([]int, error) {
	t, err := c.table()
	if err != nil {
		return nil, err
	}
	ids := make([]int, len(x)/c.Dim)
	if err := t.Assign(ids, x); err != nil {
		return nil, err
	}
	for i := range ids {
		ids[i] += c.Header.FirstID
	}
	return ids, nil
}

// vector returns the vector of a code in dst.
func (c *Codebook) vector(dst []float32, code int) { ref.Ops{}.EmbedRow(dst, &c.rows, code) }

// dataAlign is the alignment of the vectors in a section.
const dataAlign = 64

// Section returns the content of the section that holds the codebook.
func (c *Codebook) Section() ([]byte, error) {
	text, err := format.EncodeJSON(&c.Header)
	if err != nil {
		return nil, err
	}
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	out = append(out, text...)
	out = append(out, make([]byte, -len(out)&(dataAlign-1))...)
	if n := len(out) + len(c.rows.Data); n > format.MaxSection {
		return nil, fmt.Errorf("the codebook takes %d bytes, want at most %d, the limit of a section; store its vectors as bf16", n, format.MaxSection)
	}
	return append(out, c.rows.Data...), nil
}

// Parse reads the section of a codebook of the given kind. data is not copied and
// must not change. The error is a *format.FormatError of class config.
func Parse(kind Kind, data []byte) (*Codebook, error) {
	bad := func(offset int, field, got, want string) error {
		return &format.FormatError{Class: format.ClassConfig, Offset: int64(offset), Field: "section " + kind.SectionName() + ": " + field, Got: got, Want: want}
	}
	if len(data) < 8 {
		return nil, bad(0, "length", fmt.Sprintf("%d bytes", len(data)), "at least 8")
	}
	n := binary.LittleEndian.Uint64(data)
	if n > uint64(len(data)-8) {
		return nil, bad(0, "length of the header", fmt.Sprint(n), fmt.Sprintf("at most %d, what the section has room for", len(data)-8))
	}
	end := 8 + int(n)
	var h Header
	if err := format.DecodeJSON(data[8:end], &h); err != nil {
		return nil, bad(8, "header", "refused: "+err.Error(), "the canonical JSON of spec/trit-v1.md, section 18")
	}
	if h.Kind != kind {
		return nil, bad(8, "kind", string(h.Kind), string(kind)+", as the name of the section says")
	}
	start := end + -end&(dataAlign-1)
	if start > len(data) {
		return nil, bad(end, "padding", fmt.Sprintf("a section that ends at %d", len(data)), fmt.Sprintf("vectors at %d", start))
	}
	if i := strings.IndexFunc(string(data[end:start]), func(r rune) bool { return r != 0 }); i >= 0 {
		return nil, bad(end+i, "padding", fmt.Sprintf("0x%02x", data[end+i]), "0x00")
	}
	c, err := New(h, data[start:])
	if err != nil {
		return nil, bad(start, "content", "refused: "+err.Error(), "a codebook that spec/trit-v1.md, section 18, allows")
	}
	return c, nil
}

// CheckIDs holds the ids of a file's codebooks to its vocabulary: all of them
// below vocab, those of images and sounds at or above text, the first id that
// neither special tokens nor text use, and not used twice. The error joins every
// problem and says which first_id to choose.
func CheckIDs(books []*Codebook, text, vocab int) error {
	var errs []error
	next := text
	for i, c := range books {
		first, end := c.Header.FirstID, c.Header.FirstID+c.IDs()
		if end > vocab {
			errs = append(errs, fmt.Errorf("the %s codebook has the ids %d to %d, but vocab_size is %d: want a model of vocab_size %d or more, or fewer codes", c.Kind, first, end-1, vocab, end))
		}
		if c.Kind == Embedding {
			continue
		}
		if first < text {
			errs = append(errs, fmt.Errorf("the %s codebook begins at id %d, want first_id %d or more: the ids below are those of text", c.Kind, first, next))
		}
		for _, other := range books[:i] {
			if other.Kind != Embedding && first < other.Header.FirstID+other.IDs() && other.Header.FirstID < end {
				errs = append(errs, fmt.Errorf("the ids %d to %d of the %s codebook and %d to %d of the %s codebook overlap, want first_id %d or more for one of them",
					first, end-1, c.Kind, other.Header.FirstID, other.Header.FirstID+other.IDs()-1, other.Kind, max(end, other.Header.FirstID+other.IDs())))
			}
		}
		next = max(next, end)
	}
	return errors.Join(errs...)
}

// Lossy returns a code that does not survive decoding and encoding, and the one
// that it becomes: two vectors are equal, or differ by less than pixels or samples
// can show. ok is false where every code survives. Of a large codebook only the
// first codes are tried, as many as a few seconds allow.
func (c *Codebook) Lossy() (code, becomes int, ok bool, err error) {
	if c.Kind == Embedding {
		return 0, 0, false, nil
	}
	const work = 1 << 36 // products, some seconds of one core
	codes := int(min(int64(c.Codes), max(1, work/(int64(c.Codes)*int64(c.Dim)))))
	together := max(1, min(1024, MaxPixels/c.Dim)) // in one image or sound
	for lo := 0; lo < codes; lo += together {
		ids := make([]int, 0, 2*together)
		for code := lo; code < min(lo+together, codes); code++ {
			ids = append(ids, c.Header.FirstID+code)
			if c.Kind == Image {
				ids = append(ids, c.Header.FirstID+c.Codes) // patches one below the other
			}
		}
		content, err := c.Decode(ids)
		if err != nil {
			return 0, 0, false, err
		}
		again, err := c.Encode(content)
		if err != nil {
			return 0, 0, false, err
		}
		for i, id := range ids {
			if again[i] != id {
				return id - c.Header.FirstID, again[i] - c.Header.FirstID, true, nil
			}
		}
	}
	return 0, 0, false, nil
}

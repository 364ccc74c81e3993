package convert

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tritter-ai/tritter/codebook"
	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/convert/checkpoint/safetensors"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/tokenizer"
)

// codebookNames are the tensors that may hold the vectors of a codebook, the
// first that is there. A file with one matrix needs none of these names.
var codebookNames = []string{"codebook", "codebook.weight", "embedding.weight", "quantize.embedding.weight", "quantizer.codebook"}

// planCodebooks reads the files of Options.Codebooks and holds their ids to the
// vocabulary.
func (p *Plan) planCodebooks() error {
	text := tokenizer.SpecialTokens
	if p.tokenizer != nil {
		// Bytes without a token get ids behind the vocabulary: leave room for them.
		m, err := tokenizer.NewMultiModal(p.tokenizer, tokenizer.MultiModalOptions{VocabSize: model.MaxVocab})
		if err != nil {
			return err
		}
		text = m.TextEnd()
	}
	next := text
	for _, path := range p.options.Codebooks {
		book, err := openCodebook(path, next)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if i := slices.IndexFunc(p.Codebooks, func(c *codebook.Codebook) bool { return c.Kind == book.Kind }); i >= 0 {
			return fmt.Errorf("%s: a second codebook of kind %s, want one of each kind", path, book.Kind)
		}
		if book.Kind == codebook.Embedding {
			if book.Dim != p.Config.HiddenSize {
				return fmt.Errorf("%s: vectors of %d elements, want %d, the model's hidden_size", path, book.Dim, p.Config.HiddenSize)
			}
		} else {
			if p.tokenizer != nil && len(p.tokenizer.Modalities()) == 0 {
				return fmt.Errorf("%s: the ids 0 to 7 of the tokenizer are not <pad> <bos> <eos> <unk> <text> <code> <image> <audio>, want a vocabulary of Tritter: it has no token for %ss; --tokenizer PATH stores another, --no-tokenizer none", path, book.Kind)
			}
			p.Config.Modalities = append(p.Config.Modalities, model.Modality(book.Kind))
			next = max(next, book.FirstID()+book.IDs())
		}
		code, becomes, lossy, err := book.Lossy()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if lossy {
			p.Warnings = append(p.Warnings, fmt.Sprintf("%s: code %d becomes %d when it is decoded and encoded again: their vectors are equal, or too similar for pixels or samples", path, code, becomes))
		}
		p.Codebooks = append(p.Codebooks, book)
	}
	slices.Sort(p.Config.Modalities)
	slices.SortFunc(p.Codebooks, func(a, b *codebook.Codebook) int { return cmp.Compare(a.Kind, b.Kind) })
	return codebook.CheckIDs(p.Codebooks, text, p.Config.VocabSize)
}

// openCodebook reads a codebook from a safetensors file. Its metadata says what it
// is, in the keys of spec/trit-v1.md, section 18; codes, dim and dtype are those
// of the tensor, and first_id is next where it is not said.
func openCodebook(path string, next int) (*codebook.Codebook, error) {
	r, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	t, err := codebookTensor(r)
	if err != nil {
		return nil, err
	}
	h, err := codebookHeader(r.Metadata(), next)
	if err != nil {
		return nil, err
	}
	if len(t.Shape) != 2 || t.Shape[0] < 1 || t.Shape[1] < 1 || t.Size > format.MaxSection {
		return nil, fmt.Errorf("tensor %q has shape %v and %d bytes, want [codes, dim] of at most %d bytes", t.Name, t.Shape, t.Size, format.MaxSection)
	}
	dtype, ok := map[checkpoint.DType]string{checkpoint.F32: "f32", checkpoint.F16: "f16", checkpoint.BF16: "bf16"}[t.DType]
	if !ok {
		return nil, fmt.Errorf("tensor %q is %s, want F32, F16 or BF16", t.Name, t.DType)
	}
	h.Codes, h.Dim, h.DType = int(t.Shape[0]), int(t.Shape[1]), dtype
	data := make([]byte, t.Size)
	if _, err := t.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	book, err := codebook.New(h, data)
	if err != nil {
		return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	_, err = book.Section() // its size
	return book, err
}

// codebookTensor finds the vectors.
func codebookTensor(r *safetensors.Reader) (*checkpoint.Tensor, error) {
	for _, name := range codebookNames {
		if t, ok := r.Lookup(name); ok {
			return t, nil
		}
	}
	var matrices []*checkpoint.Tensor
	for _, t := range r.Tensors() {
		if len(t.Shape) == 2 {
			matrices = append(matrices, t)
		}
	}
	if len(matrices) != 1 {
		return nil, fmt.Errorf("%d matrices, none of them named %s; want one matrix [codes, dim], or one of these names", len(matrices), strings.Join(codebookNames, ", "))
	}
	return matrices[0], nil
}

// codebookHeader reads the metadata. Keys that it does not know belong to others.
func codebookHeader(metadata map[string]string, next int) (codebook.Header, error) {
	h := codebook.Header{Kind: codebook.Kind(metadata["kind"]), FirstID: next}
	if !slices.Contains(codebook.Kinds, h.Kind) {
		return h, fmt.Errorf("metadata kind is %q, want audio, embedding or image in the __metadata__ of the file", metadata["kind"])
	}
	required := map[codebook.Kind]map[string]*int{
		codebook.Image:     {"patch_size": &h.PatchSize},
		codebook.Audio:     {"frame_length": &h.FrameLength, "sample_rate": &h.SampleRate},
		codebook.Embedding: {},
	}[h.Kind]
	optional := map[string]*int{"first_id": &h.FirstID}
	switch h.Kind {
	case codebook.Image:
		h.Channels, h.Range = 3, codebook.Unit
		optional["channels"] = &h.Channels
		if r, ok := metadata["range"]; ok {
			h.Range = codebook.Range(r)
		}
	case codebook.Audio:
		h.Channels = 1
		optional["channels"] = &h.Channels
	case codebook.Embedding:
		h.FirstID = 0 // codes are tokens unless the file says otherwise
	}
	for _, key := range slices.Sorted(maps.Keys(required)) {
		if _, ok := metadata[key]; !ok {
			return h, fmt.Errorf("metadata %s is missing, want it in the __metadata__ of a codebook of kind %s", key, h.Kind)
		}
		optional[key] = required[key]
	}
	for _, key := range slices.Sorted(maps.Keys(optional)) {
		if text, ok := metadata[key]; ok {
			v, err := strconv.Atoi(text)
			if err != nil {
				return h, fmt.Errorf("metadata %s is %q, want an integer", key, text)
			}
			*optional[key] = v
		}
	}
	return h, nil
}

// writeCodebooks sets their sections.
func (p *Plan) writeCodebooks(w *format.Writer) error {
	for _, book := range p.Codebooks {
		data, err := book.Section()
		if err != nil {
			return err
		}
		if err := w.SetSection(book.Kind.SectionName(), data); err != nil {
			return err
		}
	}
	return nil
}

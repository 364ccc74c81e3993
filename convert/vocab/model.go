package vocab

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// pieceType is the type of a piece, ModelProto.SentencePiece.Type.
type pieceType int

const (
	normal      pieceType = 1
	unknown     pieceType = 2
	control     pieceType = 3
	userDefined pieceType = 4
	unused      pieceType = 5
	byteValue   pieceType = 6
)

// maxPiece is the size in bytes from which SentencePiece refuses a piece.
const maxPiece = 8000

// model is what a ModelProto says of encoding and decoding. Field numbers and
// defaults are those of sentencepiece_model.proto.
type model struct {
	pieces  [][]byte // by id, parts of the file
	offsets []int32  // of the pieces' messages
	scores  []float32
	types   []pieceType
	specs   [6]bool // by field number: seen

	modelType          int
	modelTypeAt        int
	byteFallback       bool
	whitespaceSuffix   bool
	whitespaceSuffixAt int
	bosPiece           []byte

	normalizerName     []byte
	charsMap           []byte
	charsMapAt         int
	denormalizes       bool
	denormalizesAt     int
	dummyPrefix        bool
	removeWhitespace   bool
	removeWhitespaceAt int
	escapeWhitespace   bool
	escapeWhitespaceAt int
}

// readModel reads a ModelProto and refuses what SentencePiece refuses to load.
func readModel(data []byte) (*model, error) {
	m := &model{modelType: 1, modelTypeAt: -1, bosPiece: []byte("<s>"),
		dummyPrefix: true, removeWhitespace: true, removeWhitespaceAt: -1, escapeWhitespace: true}
	root := &message{file: data, end: len(data), name: "model", index: -1}
	err := root.fields(func(v value) error {
		switch v.field {
		case 1:
			return m.piece(v)
		case 2:
			return m.spec(v, "trainer_spec", m.trainer)
		case 3:
			return m.spec(v, "normalizer_spec", m.normalizer)
		case 5:
			return m.spec(v, "denormalizer_spec", m.denormalizer)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(m.pieces) == 0 {
		return nil, &FormatError{Kind: kindSentencePiece, Offset: -1, Field: "pieces", Got: "none", Want: "a vocabulary"}
	}
	return m, nil
}

// spec reads a message that a file has once. Protobuf would merge several; no
// writer makes several, and readers that differ would see other settings.
func (m *model) spec(v value, name string, read func(value) error) error {
	in, err := v.message(name, -1)
	if err != nil {
		return err
	}
	if m.specs[v.field] {
		return in.wrong(v.off, "", "a second one", "one")
	}
	m.specs[v.field] = true
	return in.fields(read)
}

func (m *model) piece(v value) error {
	id := len(m.pieces)
	if id >= MaxTokens {
		return &UnsupportedError{Kind: kindSentencePiece, Offset: v.off, Field: "pieces", Got: "a vocabulary of more than " + strconv.Itoa(MaxTokens), Want: "at most that many"}
	}
	in, err := v.message("piece", id)
	if err != nil {
		return err
	}
	var text []byte
	var score float32
	kind := int(normal)
	err = in.fields(func(v value) (err error) {
		switch v.field {
		case 1:
			text, err = v.bytes("piece")
		case 2:
			score, err = v.float("score")
		case 3:
			kind, err = v.enum("type")
		}
		return err
	})
	if err != nil {
		return err
	}
	switch {
	case len(text) == 0:
		return in.wrong(v.off, "piece", "an empty piece", "a text")
	case len(text) >= maxPiece:
		return in.wrong(v.off, "piece", fmt.Sprintf("%d bytes", len(text)), fmt.Sprintf("less than %d", maxPiece))
	case !utf8.Valid(text):
		return in.wrong(v.off, "piece", quote(text), "UTF-8")
	case bytes.IndexByte(text, 0) >= 0:
		return in.wrong(v.off, "piece", quote(text), "no zero byte")
	case score-score != 0:
		return in.wrong(v.off, "score", strconv.FormatFloat(float64(score), 'g', -1, 32), "a finite number")
	case kind < int(normal) || kind > int(byteValue):
		return in.wrong(v.off, "type", strconv.Itoa(kind), "1 to 6")
	}
	m.pieces = append(m.pieces, text)
	m.offsets = append(m.offsets, int32(v.off))
	m.scores = append(m.scores, score)
	m.types = append(m.types, pieceType(kind))
	return nil
}

func (m *model) trainer(v value) (err error) {
	switch v.field {
	case 3:
		m.modelTypeAt = v.off
		m.modelType, err = v.enum("model_type")
	case 24:
		m.whitespaceSuffixAt = v.off
		m.whitespaceSuffix, err = v.bool("treat_whitespace_as_suffix")
	case 35:
		m.byteFallback, err = v.bool("byte_fallback")
	case 46:
		var s []byte
		if s, err = v.bytes("bos_piece"); len(s) > 0 {
			m.bosPiece = s
		}
	}
	return err
}

func (m *model) normalizer(v value) (err error) {
	switch v.field {
	case 1:
		m.normalizerName, err = v.bytes("name")
	case 2:
		m.charsMapAt = v.off
		m.charsMap, err = v.bytes("precompiled_charsmap")
	case 3:
		m.dummyPrefix, err = v.bool("add_dummy_prefix")
	case 4:
		m.removeWhitespaceAt = v.off
		m.removeWhitespace, err = v.bool("remove_extra_whitespaces")
	case 5:
		m.escapeWhitespaceAt = v.off
		m.escapeWhitespace, err = v.bool("escape_whitespaces")
	}
	return err
}

func (m *model) denormalizer(v value) error {
	if v.field != 2 {
		return nil
	}
	rules, err := v.bytes("precompiled_charsmap")
	m.denormalizes, m.denormalizesAt = len(rules) > 0, v.off
	return err
}

// wrong is the error about a piece.
func (m *model) wrong(id int32, got, want, hint string) error {
	return &FormatError{Kind: kindSentencePiece, Offset: int(m.offsets[id]), Field: fmt.Sprintf("piece %d", id), Got: got, Want: want, Hint: hint}
}

func (m *model) unsupported(id int32, got, want, hint string) error {
	return &UnsupportedError{Kind: kindSentencePiece, Offset: int(m.offsets[id]), Field: fmt.Sprintf("piece %d", id), Got: got, Want: want, Hint: hint}
}

// supported refuses the settings that a tokenizer.json of package tokenizer
// cannot express.
func (m *model) supported() error {
	refuse := func(off int, field, got, want, hint string) error {
		return &UnsupportedError{Kind: kindSentencePiece, Offset: off, Field: field, Got: got, Want: want, Hint: hint}
	}
	const retrain = "take the tokenizer.json that the model was published with, or a model whose vocabulary was trained with --normalization_rule_name=identity"
	if m.modelType != 2 {
		name := map[int]string{1: "unigram", 3: "word", 4: "char"}[m.modelType]
		if name == "" {
			return &FormatError{Kind: kindSentencePiece, Offset: m.modelTypeAt, Field: "trainer_spec: model_type", Got: strconv.Itoa(m.modelType), Want: "1 to 4"}
		}
		why := ""
		if m.modelType == 1 {
			why = "a unigram model takes the likeliest segmentation of a text, which no list of merges gives; "
		}
		return refuse(m.modelTypeAt, "trainer_spec: model_type", "a "+name+" model", "a BPE model", why+"only a checkpoint with a BPE vocabulary can be run")
	}
	switch {
	case m.whitespaceSuffix:
		return refuse(m.whitespaceSuffixAt, "trainer_spec: treat_whitespace_as_suffix", "true", "false", "only a vocabulary with white space in front of words can be run")
	case len(m.charsMap) > 0:
		return refuse(m.charsMapAt, "normalizer_spec: precompiled_charsmap", fmt.Sprintf("the character map of rule %s, %d bytes,", quote(m.normalizerName), len(m.charsMap)), "none (rule identity)", retrain)
	case m.removeWhitespace:
		return refuse(m.removeWhitespaceAt, "normalizer_spec: remove_extra_whitespaces", "true (which is also what its absence means)", "false", "take the tokenizer.json that the model was published with")
	case !m.escapeWhitespace:
		return refuse(m.escapeWhitespaceAt, "normalizer_spec: escape_whitespaces", "false", "true", "take the tokenizer.json that the model was published with")
	case m.denormalizes:
		return refuse(m.denormalizesAt, "denormalizer_spec: precompiled_charsmap", "a character map", "none", retrain)
	}
	return nil
}

// consistent holds the pieces to the rules of SentencePiece for a vocabulary and
// returns the id of the unknown piece. order is sorted(m.pieces).
func (m *model) consistent(order []int32) (unk int32, err error) {
	for k := 1; k < len(order); k++ {
		if a, b := order[k-1], order[k]; bytes.Equal(m.pieces[a], m.pieces[b]) {
			return 0, m.wrong(b, quote(m.pieces[b])+", as piece "+strconv.Itoa(int(a)), "every piece once", "")
		}
	}
	unk = -1
	found := 0
	for i, text := range m.pieces {
		id := int32(i)
		switch m.types[i] {
		case unknown:
			if unk >= 0 {
				return 0, m.wrong(id, "a second unknown piece "+quote(text), fmt.Sprintf("one; piece %d is the first", unk), "")
			}
			unk = id
		case byteValue:
			if !m.byteFallback {
				return 0, m.wrong(id, "the byte "+quote(text), "none, as trainer_spec.byte_fallback is false", "")
			}
			if !isByte(text) || bytes.ContainsAny(text[3:5], "abcdef") {
				return 0, m.wrong(id, "the byte "+quote(text), "<0x00> to <0xFF>", "")
			}
			found++
		default:
			if m.byteFallback && isByte(text) {
				return 0, m.unsupported(id, quote(text)+", no byte by its type,", "such a spelling for bytes alone", "a tokenizer.json cannot tell it from the byte")
			}
		}
	}
	if unk < 0 {
		return 0, &FormatError{Kind: kindSentencePiece, Offset: -1, Field: "pieces", Got: "no piece of type unknown", Want: "one"}
	}
	if m.byteFallback && found != 256 {
		return 0, &FormatError{Kind: kindSentencePiece, Offset: -1, Field: "pieces", Got: fmt.Sprintf("%d bytes", found), Want: "256, as trainer_spec.byte_fallback is true"}
	}
	return unk, nil
}

// isByte tells the spellings that a tokenizer.json decodes as a byte: it reads
// hexadecimal digits of both cases, and a sign in the place of the first.
func isByte(s []byte) bool {
	if len(s) != 6 || !bytes.HasPrefix(s, []byte("<0x")) || s[5] != '>' {
		return false
	}
	digits := s[3:5]
	if digits[0] == '+' {
		digits = digits[1:]
	}
	_, err := strconv.ParseUint(string(digits), 16, 8)
	return err == nil
}

// better orders scores, the best first.
func better(a, b float32) int {
	switch {
	case a > b:
		return -1
	case a < b:
		return 1
	}
	return 0
}

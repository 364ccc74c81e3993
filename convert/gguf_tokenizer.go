package convert

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
	"github.com/tritter-ai/tritter/convert/vocab"
)

// The kinds of tokens (llama.h, enum llama_token_type), which are those of
// SentencePiece.
const (
	tokenNormal      = 1
	tokenUnknown     = 2
	tokenControl     = 3
	tokenUserDefined = 4
	tokenUnused      = 5
	tokenByte        = 6
)

// preTokenizer is what a name of tokenizer.ggml.pre stands for.
type preTokenizer struct {
	pattern      string // split by it; "" is GPT-2's own pattern
	nfc          bool   // the model normalizes to NFC first, which llama.cpp leaves out
	ignoreMerges bool   // a whole word that is a token stays one
	addBOS       bool   // unless the file says otherwise
}

// Patterns of Llama 3 and of Qwen 2 as their tokenizer.json spell them.
const (
	llama3Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwen2Pattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// preTokenizers are those of llama.cpp (llama-vocab.cpp) that are read.
var preTokenizers = map[string]preTokenizer{
	"llama3":    {pattern: llama3Pattern, ignoreMerges: true, addBOS: true},
	"llama-v3":  {pattern: llama3Pattern, ignoreMerges: true, addBOS: true},
	"llama-bpe": {pattern: llama3Pattern, ignoreMerges: true, addBOS: true},
	"smaug-bpe": {pattern: llama3Pattern},
	"qwen2":     {pattern: qwen2Pattern, nfc: true},
	"gpt-2":     {},
}

// ggufVocabulary is the tokenizer of a GGUF file.
type ggufVocabulary struct {
	m      *metadata
	tokens []string
	types  []int32
}

func (v *ggufVocabulary) key(key string) string { return "tokenizer.ggml." + key }

// bad reports token id.
func (v *ggufVocabulary) bad(id int, got, want string) error {
	return &checkpoint.FormatError{File: v.m.file(), Offset: noOffset, Field: fmt.Sprintf("metadata tokenizer.ggml.tokens: token %d", id), Got: got, Want: want}
}

// ggufTokenizer makes a tokenizer.json of the tokenizer in a GGUF file; nil when
// it says that it has none.
func ggufTokenizer(r *gguf.Reader) ([]byte, error) {
	v := &ggufVocabulary{m: &metadata{r: r, asked: map[string]bool{}}}
	kind, ok := optional[string](v.m, v.key("model"))
	if !ok || kind == "none" || kind == "no_vocab" {
		return nil, v.m.err
	}
	if kind != "gpt2" && kind != "llama" {
		v.m.unsupported(v.key("model"), tensor.Quote(kind), `"gpt2" (byte-level BPE) or "llama" (SentencePiece)`, "")
		return nil, v.m.err
	}
	var err error
	if v.tokens, err = gguf.Get[[]string](r, v.key("tokens")); err != nil {
		return nil, err
	}
	if v.types, err = gguf.Get[[]int32](r, v.key("token_type")); err != nil {
		return nil, err
	}
	if len(v.types) != len(v.tokens) {
		v.m.wrong(v.key("token_type"), fmt.Sprintf("%d kinds", len(v.types)), fmt.Sprintf("%d, one for each of tokenizer.ggml.tokens", len(v.tokens)), "")
		return nil, v.m.err
	}
	// The vocabulary of a model is often padded.
	for n := len(v.types); n > 0 && v.types[n-1] == tokenUnused; n = len(v.types) {
		v.tokens, v.types = v.tokens[:n-1], v.types[:n-1]
	}
	if kind == "llama" {
		return v.sentencePiece()
	}
	return v.byteLevel()
}

// postProcessor returns the component that puts ids around a text, JSON null
// for none.
func (v *ggufVocabulary) postProcessor(addBOS bool) (json.RawMessage, error) {
	addEOS := false
	if on, ok := optional[bool](v.m, v.key("add_bos_token")); ok {
		addBOS = on
	}
	if on, ok := optional[bool](v.m, v.key("add_eos_token")); ok {
		addEOS = on
	}
	type item map[string]any
	special := map[string]any{}
	token := func(key string, typeID int) item {
		id, ok := v.m.integer(v.key(key))
		if !ok || id < 0 || id >= len(v.tokens) {
			v.m.wrong(v.key(key), fmt.Sprint(id), fmt.Sprintf("an id below %d, which is put around every text", len(v.tokens)), "")
			return nil
		}
		text := v.tokens[id]
		special[text] = item{"id": text, "ids": []int{id}, "tokens": []string{text}}
		return item{"SpecialToken": item{"id": text, "type_id": typeID}}
	}
	around := func(sequence string, typeID int) (out []item) {
		if addBOS {
			out = append(out, token("bos_token_id", typeID))
		}
		out = append(out, item{"Sequence": item{"id": sequence, "type_id": typeID}})
		if addEOS {
			out = append(out, token("eos_token_id", typeID))
		}
		return out
	}
	single, pair := around("A", 0), append(around("A", 0), around("B", 1)...)
	if v.m.err != nil || !addBOS && !addEOS {
		return json.RawMessage("null"), v.m.err
	}
	return encodeJSON(item{"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special})
}

// encodeJSON is json.Marshal that leaves <, > and & as they are.
func encodeJSON(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), err
}

// jsonToken is an added token.
type jsonToken struct {
	ID         int    `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// byteLevel makes the tokenizer.json of a byte-level BPE.
func (v *ggufVocabulary) byteLevel() ([]byte, error) {
	name, ok := optional[string](v.m, v.key("pre"))
	pre, known := preTokenizers[name]
	if v.m.err == nil && !known {
		got := tensor.Quote(name)
		if !ok {
			got = "no such key"
		}
		v.m.unsupported(v.key("pre"), got, "llama-bpe, llama3, smaug-bpe, qwen2 or gpt-2", "how it splits a text is not known, and another splitting gives other ids")
	}
	if on, _ := optional[bool](v.m, v.key("add_space_prefix")); on {
		v.m.unsupported(v.key("add_space_prefix"), "true", "false with byte-level BPE", "")
	}
	lines, ok := optional[[]string](v.m, v.key("merges"))
	if !ok && v.m.err == nil {
		v.m.err = &gguf.MetaError{File: v.m.file(), Key: v.key("merges"), Got: "no such key", Want: "[]string"}
	}
	if v.m.err != nil {
		return nil, v.m.err
	}
	merges := make([][2]string, len(lines))
	merged := map[string]bool{} // tokens that merges name
	for i, line := range lines {
		left, right, ok := strings.Cut(line, " ")
		if !ok || left == "" || right == "" || strings.Contains(right, " ") {
			v.m.wrong(v.key("merges"), fmt.Sprintf("%s at %d", tensor.Quote(line), i), "two tokens with a space between", "")
			return nil, v.m.err
		}
		merges[i] = [2]string{left, right}
		merged[left], merged[right], merged[left+right] = true, true, true
	}
	vocabulary, added := map[string]int{}, []jsonToken{}
	seen := map[string]int{}
	for id, text := range v.tokens {
		kind := v.types[id]
		if kind == tokenUnused {
			continue
		}
		if kind < tokenNormal || kind > tokenUnused {
			return nil, v.bad(id, fmt.Sprintf("the kind %d", kind), "1 to 5 in a byte-level vocabulary")
		}
		if text == "" || !utf8.ValidString(text) {
			return nil, v.bad(id, tensor.Quote(text), "a text in UTF-8")
		}
		if other, twice := seen[text]; twice {
			return nil, v.bad(id, tensor.Quote(text)+fmt.Sprintf(", which is token %d as well", other), "tokens that differ")
		}
		seen[text] = id
		if kind == tokenNormal || merged[text] {
			vocabulary[text] = id
		}
		if kind != tokenNormal {
			added = append(added, jsonToken{ID: id, Content: text, Special: kind != tokenUserDefined})
		}
	}
	post, err := v.postProcessor(pre.addBOS)
	if err != nil {
		return nil, err
	}
	type object map[string]any
	byteLevel := object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	var split any = byteLevel
	if pre.pattern != "" {
		byteLevel["use_regex"] = false
		split = object{"type": "Sequence", "pretokenizers": []object{
			{"type": "Split", "pattern": object{"Regex": pre.pattern}, "behavior": "Isolated", "invert": false}, byteLevel}}
	}
	var normalizer any
	if pre.nfc {
		normalizer = object{"type": "NFC"}
	}
	return encodeJSON(object{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "normalizer": normalizer, "pre_tokenizer": split, "post_processor": post,
		"decoder": object{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
		"model": object{"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil, "fuse_unk": false,
			"byte_fallback": false, "ignore_merges": pre.ignoreMerges, "vocab": vocabulary, "merges": merges},
	})
}

// sentencePiece makes the tokenizer.json of a SentencePiece vocabulary. Tokens,
// scores and kinds are those of SentencePiece's own file, so that file is built
// and converted like any other.
func (v *ggufVocabulary) sentencePiece() ([]byte, error) {
	if raw, ok := v.m.r.Meta(v.key("precompiled_charsmap")); ok {
		v.m.unsupported(v.key("precompiled_charsmap"), shorten([]byte(fmt.Sprint(raw))), "no such key", "rules of normalization are not supported")
		return nil, v.m.err
	}
	scores, err := gguf.Get[[]float32](v.m.r, v.key("scores"))
	if err != nil {
		return nil, err
	}
	if len(scores) < len(v.tokens) {
		v.m.wrong(v.key("scores"), fmt.Sprintf("%d scores", len(scores)), fmt.Sprintf("%d, one for each token", len(v.tokens)), "")
		return nil, v.m.err
	}
	space, ok := optional[bool](v.m, v.key("add_space_prefix"))
	space = space || !ok
	trim, _ := optional[bool](v.m, v.key("remove_extra_whitespaces"))
	post, err := v.postProcessor(true)
	if err != nil {
		return nil, err
	}
	data, err := vocab.SentencePiece(v.model(scores, space, trim))
	if err != nil {
		return nil, fmt.Errorf("%s: metadata tokenizer.ggml: %w", v.m.file(), err)
	}
	var file map[string]json.RawMessage
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	file["post_processor"] = post
	return encodeJSON(file)
}

// model returns the vocabulary as a SentencePiece ModelProto
// (sentencepiece_model.proto).
func (v *ggufVocabulary) model(scores []float32, space, trim bool) []byte {
	const varint, bytes, fixed32 = 0, 2, 5
	tag := func(b []byte, field, wire int) []byte { return binary.AppendUvarint(b, uint64(field<<3|wire)) }
	text := func(b []byte, field int, s []byte) []byte {
		return append(binary.AppendUvarint(tag(b, field, bytes), uint64(len(s))), s...)
	}
	number := func(b []byte, field int, n uint64) []byte { return binary.AppendUvarint(tag(b, field, varint), n) }
	flag := func(b []byte, field int, on bool) []byte {
		return number(b, field, map[bool]uint64{true: 1}[on])
	}
	var out []byte
	for id, token := range v.tokens {
		piece := text(nil, 1, []byte(token))
		piece = binary.LittleEndian.AppendUint32(tag(piece, 2, fixed32), math.Float32bits(scores[id]))
		piece = number(piece, 3, uint64(max(v.types[id], 0)))
		out = text(out, 1, piece)
	}
	const bpe = 2
	trainer := number(nil, 3, bpe)
	trainer = flag(trainer, 35, slices.Contains(v.types, tokenByte)) // byte_fallback
	out = text(out, 2, trainer)
	normalizer := text(nil, 1, []byte("identity"))
	normalizer = flag(normalizer, 3, space) // add_dummy_prefix
	normalizer = flag(normalizer, 4, trim)  // remove_extra_whitespaces
	normalizer = flag(normalizer, 5, true)  // escape_whitespaces
	return text(out, 3, normalizer)
}

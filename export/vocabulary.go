package export

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tritter-ai/tritter/tokenizer"
)

// vocabulary is what llama.cpp wants to know of a tokenizer.json that
// package tokenizer has accepted.
type vocabulary struct {
	tokenizer *tokenizer.Tokenizer
	size      int // of the model, at least that of the tokenizer

	Normalizer   *component   `json:"normalizer"`
	PreTokenizer *component   `json:"pre_tokenizer"`
	AddedTokens  []addedToken `json:"added_tokens"`
	Model        struct {
		UnkToken     *string           `json:"unk_token"`
		ByteFallback bool              `json:"byte_fallback"`
		IgnoreMerges bool              `json:"ignore_merges"`
		Prefix       string            `json:"continuing_subword_prefix"`
		Suffix       string            `json:"end_of_word_suffix"`
		Vocab        map[string]int    `json:"vocab"`
		Merges       []json.RawMessage `json:"merges"`
	} `json:"model"`

	merges [][2]string
}

// component is a normalizer or a pre-tokenizer, of any type.
type component struct {
	Type          string      `json:"type"`
	Normalizers   []component `json:"normalizers"`
	PreTokenizers []component `json:"pretokenizers"`
	Prepend       string      `json:"prepend"`
	Content       string      `json:"content"`
	Pattern       struct {
		String string
		Regex  string
	} `json:"pattern"`
	Behavior       string `json:"behavior"`
	Invert         bool   `json:"invert"`
	AddPrefixSpace bool   `json:"add_prefix_space"`
	UseRegex       *bool  `json:"use_regex"`
	Replacement    string `json:"replacement"`
	PrependScheme  string `json:"prepend_scheme"`
	Split          *bool  `json:"split"`
}

type addedToken struct {
	ID         int    `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Special    bool   `json:"special"`
}

func readVocabulary(data []byte, t *tokenizer.Tokenizer, size int) (*vocabulary, error) {
	v := &vocabulary{tokenizer: t, size: size}
	if err := json.Unmarshal(data, v); err != nil {
		return nil, fmt.Errorf("section tokenizer: %w", err)
	}
	for _, raw := range v.Model.Merges {
		var pair [2]string
		if err := json.Unmarshal(raw, &pair); err != nil {
			var joined string // the older spelling
			if err := json.Unmarshal(raw, &joined); err != nil {
				return nil, fmt.Errorf("section tokenizer: merges: %w", err)
			}
			pair[0], pair[1], _ = strings.Cut(joined, " ")
		}
		v.merges = append(v.merges, pair)
	}
	return v, nil
}

// steps returns the parts of a sequence, or the component itself, or nothing.
func (c *component) steps() []component {
	switch {
	case c == nil:
		return nil
	case c.Type == "Sequence":
		return slices.Concat(c.Normalizers, c.PreTokenizers)
	}
	return []component{*c}
}

// Numbers of llama.cpp's kinds of tokens.
const (
	tokenNormal      = 1
	tokenUnknown     = 2
	tokenControl     = 3
	tokenUserDefined = 4
	tokenUnused      = 5
	tokenByte        = 6
)

// llama3Pattern is how Llama 3's tokenizer.json spells its pre-tokenizer.
const llama3Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

// describe writes the metadata of the tokenizer, or adds reasons why llama.cpp has
// none like it. eos are the ids that end generation.
func (v *vocabulary) describe(m *metadata, eos []int, report *GGUFReport, no *reasons) {
	if v.Model.Prefix != "" || v.Model.Suffix != "" {
		no.add("its tokenizer marks subwords with %q and %q; llama.cpp does not; --no-tokenizer exports without one", v.Model.Prefix, v.Model.Suffix)
		return
	}
	for _, a := range v.AddedTokens {
		if a.SingleWord || a.LStrip || a.RStrip {
			no.add("its added token %q takes surrounding space or whole words only; llama.cpp cannot; --no-tokenizer exports without one", a.Content)
		}
	}
	if v.Model.ByteFallback {
		v.describeSentencePiece(m, report, no)
	} else {
		v.describeByteLevel(m, no)
	}
	v.describeEnds(m, eos, report, no)
}

// describeByteLevel writes a byte-level BPE, which llama.cpp calls gpt2. It knows
// pre-tokenizers by names that stand for a pattern and other behaviour at once.
func (v *vocabulary) describeByteLevel(m *metadata, no *reasons) {
	refuse := func(format string, args ...any) {
		no.add("its tokenizer "+format+"; llama.cpp's byte-level BPE is exported for the pre-tokenizers of Llama 3 and GPT-2; --no-tokenizer exports without one", args...)
	}
	if v.Normalizer != nil {
		refuse("has the normalizer %s", v.Normalizer.Type)
		return
	}
	steps := v.PreTokenizer.steps()
	byteLevel := func(c component, regex bool) bool {
		return c.Type == "ByteLevel" && !c.AddPrefixSpace && (c.UseRegex == nil || *c.UseRegex) == regex
	}
	name := ""
	switch {
	case len(steps) == 1 && byteLevel(steps[0], true) && !v.Model.IgnoreMerges:
		name = "gpt-2"
	case len(steps) == 2 && steps[0].Type == "Split" && steps[0].Pattern.Regex == llama3Pattern && steps[0].Behavior == "Isolated" && !steps[0].Invert && byteLevel(steps[1], false):
		name = "llama-bpe"
		if !v.Model.IgnoreMerges {
			name = "smaug-bpe" // the same pattern, and merges decide alone
		}
	default:
		var types []string
		for _, s := range steps {
			types = append(types, strings.TrimSpace(s.Type+" "+s.Pattern.Regex))
		}
		refuse("has the pre-tokenizer %q with ignore_merges %v", types, v.Model.IgnoreMerges)
		return
	}
	merges := make([]string, len(v.merges))
	for i, p := range v.merges {
		if strings.Contains(p[0]+p[1], " ") {
			refuse("has the merge %q, with a space inside", p)
			return
		}
		merges[i] = p[0] + " " + p[1]
	}
	m.text("tokenizer.ggml.model", "gpt2")
	m.text("tokenizer.ggml.pre", name)
	tokens, types := v.tokens()
	m.texts("tokenizer.ggml.tokens", tokens)
	m.i32s("tokenizer.ggml.token_type", types)
	m.texts("tokenizer.ggml.merges", merges)
}

// describeSentencePiece writes a BPE in SentencePiece's manner, which llama.cpp
// calls llama: it has no merges, but joins the two neighbours whose token has the
// best score.
func (v *vocabulary) describeSentencePiece(m *metadata, report *GGUFReport, no *reasons) {
	const space = "▁"
	prepends, replaces, plain := false, false, true
	for _, s := range v.Normalizer.steps() {
		switch {
		case s.Type == "Prepend" && s.Prepend == space:
			prepends = true
		case s.Type == "Replace" && s.Pattern.String == " " && s.Content == space:
			replaces = true
		default:
			plain = false
		}
	}
	for _, s := range v.PreTokenizer.steps() {
		// With another scheme, Metaspace puts no space before a text that begins with
		// one; llama.cpp always does.
		if s.Type != "Metaspace" || s.Replacement != space || s.Split == nil || *s.Split || s.PrependScheme != "never" {
			plain = false
		}
		replaces = true
	}
	if !plain || !replaces {
		no.add("its tokenizer normalizes text otherwise than SentencePiece did for Llama 2 (Prepend and Replace of spaces, or Metaspace with prepend_scheme never and without split); llama.cpp cannot; --no-tokenizer exports without one")
		return
	}
	for b := range 256 {
		if _, ok := v.Model.Vocab[fmt.Sprintf("<0x%02X>", b)]; !ok {
			no.add("its tokenizer lacks the byte token <0x%02X>, which llama.cpp falls back on; --no-tokenizer exports without one", b)
			return
		}
	}
	tokens, types := v.tokens()
	scores, differ := v.scores(tokens, types)
	if differ > 0 {
		report.Warnings = append(report.Warnings, fmt.Sprintf("llama.cpp joins any two neighbours that form a token, this tokenizer only those of its merges: %d such pairs may be cut differently", differ))
	}
	m.text("tokenizer.ggml.model", "llama")
	m.text("tokenizer.ggml.pre", "default")
	m.texts("tokenizer.ggml.tokens", tokens)
	m.f32s("tokenizer.ggml.scores", scores)
	m.i32s("tokenizer.ggml.token_type", types)
	m.flag("tokenizer.ggml.add_space_prefix", prepends)
}

// tokens returns the text and the kind of every id of the model.
func (v *vocabulary) tokens() (tokens []string, types []int32) {
	added := map[int]addedToken{}
	for _, a := range v.AddedTokens {
		added[a.ID] = a
	}
	taken := map[string]bool{}
	tokens, types = make([]string, v.size), make([]int32, v.size)
	for id := range tokens {
		token, ok := v.tokenizer.Token(id)
		a, isAdded := added[id]
		switch {
		case !ok:
			continue
		case v.Model.ByteFallback && v.Model.UnkToken != nil && token == *v.Model.UnkToken:
			types[id] = tokenUnknown
		case isAdded && a.Special:
			types[id] = tokenControl
		case isAdded:
			types[id] = tokenUserDefined
		case v.Model.ByteFallback && isByteToken(token):
			types[id] = tokenByte
		default:
			types[id] = tokenNormal
		}
		tokens[id] = token
		taken[token] = true
	}
	// The vocabulary of a model is often padded; llama.cpp wants a text of its own
	// for every id.
	for id := range tokens {
		if types[id] == 0 {
			token := fmt.Sprintf("[PAD%d]", id)
			for taken[token] {
				token += "_"
			}
			taken[token] = true
			tokens[id], types[id] = token, tokenUnused
		}
	}
	return tokens, types
}

func isByteToken(s string) bool {
	var b int
	_, err := fmt.Sscanf(s, "<0x%02X>", &b)
	return err == nil && s == fmt.Sprintf("<0x%02X>", b)
}

// scores returns a score for every token such that the better of two is what the
// earlier merge makes: minus its rank. Tokens that no merge makes come last. differ
// counts the pairs of tokens that form a token without being its merge, or are a
// merge of another rank than the token's best.
func (v *vocabulary) scores(tokens []string, types []int32) (scores []float32, differ int) {
	rank := make(map[[2]string]int, len(v.merges))
	best := map[string]int{}
	for i, p := range v.merges {
		if _, dup := rank[p]; !dup {
			rank[p] = i
		}
		if _, made := best[p[0]+p[1]]; !made {
			best[p[0]+p[1]] = i
		}
	}
	scores = make([]float32, len(tokens))
	for id, token := range tokens {
		if types[id] != tokenNormal {
			continue
		}
		r, made := best[token]
		if !made {
			r = len(v.merges)
		}
		scores[id] = -float32(r)
		for at := range token {
			if at == 0 {
				continue
			}
			pair := [2]string{token[:at], token[at:]}
			if !v.has(pair[0]) || !v.has(pair[1]) {
				continue
			}
			// Merges of one token that follow each other are one priority.
			if i, ok := rank[pair]; !ok || !v.sameToken(token, r, i) {
				differ++
			}
		}
	}
	return scores, differ
}

func (v *vocabulary) has(token string) bool {
	_, ok := v.Model.Vocab[token]
	return ok && utf8.ValidString(token)
}

// sameToken reports whether all merges from rank lo to hi make the token.
func (v *vocabulary) sameToken(token string, lo, hi int) bool {
	for _, p := range v.merges[lo : hi+1] {
		if p[0]+p[1] != token {
			return false
		}
	}
	return true
}

// describeEnds writes the ids around a text and those that end one.
func (v *vocabulary) describeEnds(m *metadata, eos []int, report *GGUFReport, no *reasons) {
	before, after, err := v.around()
	if err != nil || len(before) > 1 || len(after) > 1 {
		no.add("its tokenizer puts %d ids before a text and %d after it; llama.cpp can put one at either end; --no-tokenizer exports without one", len(before), len(after))
		return
	}
	if len(eos) == 0 {
		no.add("it names no token that ends a text, and llama.cpp would take an arbitrary one; --generation eos=ID when converting names one, --no-tokenizer exports without a tokenizer")
		return
	}
	ends := slices.Clone(eos)
	if len(after) == 1 && after[0] != ends[0] {
		if !slices.Contains(ends, after[0]) {
			no.add("its tokenizer puts id %d after a text, which is none of those that end one, %v; llama.cpp knows one such id; --no-tokenizer exports without one", after[0], eos)
			return
		}
		ends = slices.DeleteFunc(ends, func(id int) bool { return id == after[0] })
		ends = slices.Insert(ends, 0, after[0])
	}
	// llama.cpp takes token 1 or 11 when a file names no beginning. Where none is
	// put before a text, it is never used, and the end is a harmless one.
	bos := ends[0]
	if len(before) == 1 {
		bos = before[0]
	}
	m.count("tokenizer.ggml.bos_token_id", bos)
	m.flag("tokenizer.ggml.add_bos_token", len(before) == 1)
	m.flag("tokenizer.ggml.add_eos_token", len(after) == 1)
	keys := []string{"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}
	for i, id := range ends {
		if i == len(keys) {
			report.Warnings = append(report.Warnings, fmt.Sprintf("llama.cpp knows three tokens that end a text; %v are left out", ends[i:]))
			break
		}
		m.count(keys[i], id)
	}
	if u := v.Model.UnkToken; u != nil {
		if id, ok := v.tokenizer.ID(*u); ok {
			m.count("tokenizer.ggml.unknown_token_id", id)
		}
	}
}

// around returns the ids that the tokenizer puts before and after a text.
func (v *vocabulary) around() (before, after []int, err error) {
	text, err := v.tokenizer.Encode("a", tokenizer.EncodeOptions{})
	if err != nil {
		return nil, nil, err
	}
	full, err := v.tokenizer.Encode("a", tokenizer.EncodeOptions{AddSpecial: true})
	if err != nil {
		return nil, nil, err
	}
	for i := 0; i+len(text) <= len(full); i++ {
		if slices.Equal(full[i:i+len(text)], text) {
			return full[:i], full[i+len(text):], nil
		}
	}
	return nil, nil, fmt.Errorf("the ids %v of a text are not among %v, those with special tokens", text, full)
}

package vocab

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const kindTiktoken = "tiktoken file"

// Llama3Pattern is the regular expression that cuts a text into words in Llama 3,
// and what Tiktoken takes for an empty pattern.
const Llama3Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

// beginOfText is the token that Llama 3 puts in front of a text.
const beginOfText = "<|begin_of_text|>"

// Tiktoken makes a tokenizer.json of a tiktoken file, one line "base64 rank" a
// token with ranks that ascend, as tokenizer.model of Llama 3 is one. A rank is
// an id and may be missing only where a special token has it. Every byte needs a
// token.
//
// special holds the special tokens and their ids, which the file does not: for
// Llama 3 <|begin_of_text|> and so on from the number of lines; that one is put in
// front of texts. pattern is the regular expression that cuts a text into words,
// "" for Llama3Pattern; tokenizer.Parse is what judges others.
//
// It keeps no reference to data. Errors are a *FormatError, with its line, or an
// *UnsupportedError.
func Tiktoken(data []byte, special map[string]int, pattern string) (tokenizerJSON []byte, err error) {
	if len(data) > MaxSize {
		return nil, tooLarge(kindTiktoken, len(data))
	}
	if pattern == "" {
		pattern = Llama3Pattern
	}
	if err := checkPattern(pattern); err != nil {
		return nil, err
	}
	added, err := checkSpecial(special)
	if err != nil {
		return nil, err
	}
	r, err := readRanks(data, added)
	if err != nil {
		return nil, err
	}
	order := sorted(r.tokens)
	for k := 1; k < len(order); k++ {
		if a, b := order[k-1], order[k]; bytes.Equal(r.tokens[a], r.tokens[b]) {
			return nil, r.wrong(r.lines[b], "token", quote(r.tokens[b])+", as line "+strconv.Itoa(int(r.lines[a])), "every token once")
		}
	}
	if err := r.covers(added); err != nil {
		return nil, err
	}
	a := newAffixes(r.tokens, order, func(int32) bool { return true })
	ranked := make([]int32, len(r.tokens))
	for i := range ranked {
		ranked[i] = int32(i)
	}
	f := &file{added: added, tokens: r.tokens, ids: r.ranks, spell: appendByteLevel}
	var ok bool
	if f.merges, ok = a.all(ranked, MaxSize); !ok {
		return nil, resultTooLarge(kindTiktoken)
	}
	if !consecutive(added, len(r.tokens)) {
		// Ids that do not go on from the vocabulary have to stand in it.
		f.extra = added
	}
	f.normalizer = "null"
	f.preTokenizer = `{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":` + string(appendString(nil, []byte(pattern))) +
		`},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]}`
	f.postProcessor = `{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":false,"use_regex":true}`
	if id, ok := special[beginOfText]; ok {
		f.postProcessor = `{"type":"Sequence","processors":[` + f.postProcessor + "," + template(id, []byte(beginOfText)) + `]}`
	}
	f.decoder = `{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}`
	f.options = `"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":true`
	out, ok := f.write()
	if !ok {
		return nil, resultTooLarge(kindTiktoken)
	}
	return out, nil
}

// checkSpecial returns the special tokens in the order of their ids.
func checkSpecial(special map[string]int) ([]addedToken, error) {
	var list []addedToken
	for _, name := range slices.SortedFunc(maps.Keys(special), func(a, b string) int { return cmp.Or(special[a]-special[b], strings.Compare(a, b)) }) {
		id := special[name]
		wrong := func(got, want string) error {
			return &FormatError{Kind: kindTiktoken, Offset: -1, Field: "special token " + quote(name), Got: got, Want: want}
		}
		switch {
		case name == "" || !utf8.ValidString(name):
			return nil, wrong(quote(name), "a name in UTF-8")
		case id < 0 || id >= MaxTokens:
			return nil, wrong("id "+strconv.Itoa(id), "0 to "+strconv.Itoa(MaxTokens-1))
		case len(list) > 0 && list[len(list)-1].id == id:
			return nil, wrong(fmt.Sprintf("id %d, as %s", id, quote(list[len(list)-1].content)), "an id of its own")
		}
		list = append(list, addedToken{id: id, content: []byte(name), special: true})
	}
	return list, nil
}

// interval finds what the two engines read differently.
var interval = regexp.MustCompile(`\{[0-9]*,?[0-9]*\}\+`)

func checkPattern(pattern string) error {
	const field = "pattern"
	if !utf8.ValidString(pattern) {
		return &FormatError{Kind: kindTiktoken, Offset: -1, Field: field, Got: quote(pattern), Want: "UTF-8"}
	}
	if bad := interval.FindString(pattern); bad != "" {
		return &UnsupportedError{Kind: kindTiktoken, Offset: -1, Field: field, Got: "the possessive " + quote(bad), Want: quote(strings.TrimSuffix(bad, "+")),
			Hint: "Ruby syntax reads it as a repetition of the repetition; where what follows cannot match the same characters, leave out the plus sign"}
	}
	return nil
}

// ranks are the tokens of a file.
type ranks struct {
	tokens [][]byte
	ranks  []int
	lines  []int32 // from 1
}

func (r *ranks) wrong(line int32, field, got, want string) error {
	return &FormatError{Kind: kindTiktoken, Offset: -1, Line: int(line), Field: field, Got: got, Want: want}
}

// readRanks reads the lines; added are the special tokens in the order of ids.
// Empty lines are passed over, as tiktoken does.
func readRanks(data []byte, added []addedToken) (*ranks, error) {
	r := &ranks{}
	arena := make([]byte, 0, base64.StdEncoding.DecodedLen(len(data)))
	next := 0 // the least rank that the line may have
	for line := int32(1); len(data) > 0; line++ {
		var text []byte
		text, data, _ = bytes.Cut(data, []byte("\n"))
		text = bytes.TrimSuffix(text, []byte("\r"))
		if len(text) == 0 {
			continue
		}
		if len(r.tokens) >= MaxTokens {
			return nil, &UnsupportedError{Kind: kindTiktoken, Offset: -1, Line: int(line), Got: "a vocabulary of more than " + strconv.Itoa(MaxTokens), Want: "at most that many"}
		}
		code, digits, ok := bytes.Cut(text, []byte(" "))
		if !ok {
			return nil, r.wrong(line, "", quote(text), "a token in base64, a space and its rank")
		}
		start := len(arena)
		var err error
		if arena, err = appendBase64(arena, code); err != nil {
			return nil, r.wrong(line, "token", quote(code)+" ("+err.Error()+")", "base64")
		}
		if len(arena) == start {
			return nil, r.wrong(line, "token", "an empty token", "base64")
		}
		rank, ok := readRank(digits)
		if !ok {
			return nil, r.wrong(line, "rank", quote(digits), "0 to "+strconv.Itoa(MaxTokens-1))
		}
		if rank < next {
			return nil, r.wrong(line, "rank", strconv.Itoa(rank), "ranks that ascend; the line before has "+strconv.Itoa(next-1))
		}
		for ; len(added) > 0 && added[0].id <= rank; added = added[1:] {
			switch id := added[0].id; {
			case id == rank:
				return nil, r.wrong(line, "rank", strconv.Itoa(rank)+", the id of the special token "+quote(added[0].content), "ids that differ")
			case id == next:
				next++
			}
		}
		if rank != next {
			return nil, r.wrong(line, "rank", strconv.Itoa(rank), strconv.Itoa(next)+": only special tokens may fill a gap")
		}
		next = rank + 1
		r.tokens = append(r.tokens, arena[start:len(arena):len(arena)])
		r.ranks = append(r.ranks, rank)
		r.lines = append(r.lines, line)
	}
	return r, nil
}

// appendBase64 decodes strictly: the decoder of the library passes over line ends
// and would let a carriage return stand inside a token.
func appendBase64(dst, code []byte) ([]byte, error) {
	if i := bytes.IndexByte(code, '\r'); i >= 0 {
		return nil, base64.CorruptInputError(i)
	}
	out, err := base64.StdEncoding.Strict().AppendDecode(dst, code)
	var corrupt base64.CorruptInputError
	if errors.As(err, &corrupt) {
		return nil, fmt.Errorf("byte %d of it is wrong", int64(corrupt))
	}
	return out, err
}

func readRank(digits []byte) (int, bool) {
	n, err := strconv.ParseUint(string(digits[:min(len(digits), 20)]), 10, 32)
	return int(n), err == nil && len(digits) <= 20 && n < MaxTokens
}

// covers requires a token for every byte, and special tokens that are neither
// spelled like the tokens of the file nor far away from them.
func (r *ranks) covers(added []addedToken) error {
	var bytesSeen [256]bool
	spelled := map[string]bool{} // bytes that the name of a special token spells
	for _, a := range added {
		if b, ok := spelledBytes(a.content); ok {
			spelled[string(b)] = true
		}
	}
	for i, t := range r.tokens {
		if len(t) == 1 {
			bytesSeen[t[0]] = true
		}
		if spelled[string(t)] {
			return r.wrong(r.lines[i], "token", quote(t), "none that a tokenizer.json spells as it does a special token: "+string(appendByteLevel(nil, t)))
		}
	}
	if b := slices.Index(bytesSeen[:], false); b >= 0 {
		return &FormatError{Kind: kindTiktoken, Offset: -1, Got: fmt.Sprintf("no token for the byte 0x%02X", b), Want: "all 256 bytes as tokens"}
	}
	// Tables are indexed by id: a few tokens must not make them huge.
	limit := 1<<16 + 16*len(r.tokens)
	if n := len(added); n > 0 && added[n-1].id >= limit {
		return &UnsupportedError{Kind: kindTiktoken, Offset: -1, Field: "special token " + quote(added[n-1].content),
			Got: fmt.Sprintf("id %d beside %d tokens", added[n-1].id, len(r.tokens)), Want: "less than " + strconv.Itoa(limit)}
	}
	return nil
}

// consecutive tells whether the ids go on from n, as those of added tokens do in
// a tokenizer.json.
func consecutive(added []addedToken, n int) bool {
	for i, a := range added {
		if a.id != n+i {
			return false
		}
	}
	return true
}

func tooLarge(kind string, size int) error {
	return &UnsupportedError{Kind: kind, Offset: -1, Got: fmt.Sprintf("a file of %d bytes", size), Want: fmt.Sprintf("at most %d", MaxSize)}
}

func resultTooLarge(kind string) error {
	return &UnsupportedError{Kind: kind, Offset: -1, Got: "a vocabulary whose tokenizer.json would be larger than " + strconv.Itoa(MaxSize) + " bytes", Want: "one that fits"}
}

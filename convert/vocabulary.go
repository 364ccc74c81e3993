package convert

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tritter-ai/tritter/convert/vocab"
)

// tokenizerJSON returns a tokenizer as tokenizer.json: data itself, or what a
// SentencePiece model or a tiktoken file says in that form.
func (p *Plan) tokenizerJSON(data []byte, where string) ([]byte, error) {
	if strings.EqualFold(filepath.Ext(where), ".json") {
		return data, nil
	}
	switch kind := vocab.Detect(data); kind {
	case "tokenizer.json":
		return data, nil
	case "sentencepiece":
		out, err := vocab.SentencePiece(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		return out, nil
	case "tiktoken":
		special, err := p.specialTokens()
		if err != nil {
			return nil, err
		}
		out, err := vocab.Tiktoken(data, special, "")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		p.Warnings = append(p.Warnings, fmt.Sprintf("%s does not say how text is cut into words; Llama 3's pattern is taken", where))
		return out, nil
	}
	return nil, fmt.Errorf("%s: neither a tokenizer.json nor a SentencePiece model nor a tiktoken file; --no-tokenizer converts without it", where)
}

// specialTokens reads the special tokens of tokenizer_config.json, which a tiktoken
// file does not have.
func (p *Plan) specialTokens() (map[string]int, error) {
	if p.dir.TokenizerConfig == nil {
		return nil, nil
	}
	o, err := parseObject("tokenizer_config.json", p.dir.TokenizerConfig)
	if err != nil {
		return nil, err
	}
	var added map[string]struct {
		Content string
	}
	if raw, ok := o.fields["added_tokens_decoder"]; ok {
		if err := json.Unmarshal(raw, &added); err != nil {
			return nil, fmt.Errorf("tokenizer_config.json: added_tokens_decoder: %w", err)
		}
	}
	special := map[string]int{}
	for key, token := range added {
		id, err := strconv.Atoi(key)
		if err != nil {
			return nil, fmt.Errorf("tokenizer_config.json: added_tokens_decoder has the key %q, want an id", key)
		}
		if other, twice := special[token.Content]; twice {
			return nil, fmt.Errorf("tokenizer_config.json: added_tokens_decoder gives %q the ids %d and %d, want one", token.Content, min(id, other), max(id, other))
		}
		special[token.Content] = id
	}
	return special, nil
}

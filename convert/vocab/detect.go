package vocab

import (
	"bytes"
	"encoding/binary"
)

// Detect tells what a file is by its first bytes: "tokenizer.json" for any JSON
// object, "sentencepiece", "tiktoken", or "" for none of them. The beginning of a
// file is enough: the first line, or 64 kB.
func Detect(data []byte) (kind string) {
	switch {
	case beginsWithPiece(data):
		return "sentencepiece"
	case bytes.HasPrefix(bytes.TrimLeft(data[:min(len(data), 1<<16)], " \t\r\n"), []byte("{")):
		return "tokenizer.json"
	case beginsWithRank(data):
		return "tiktoken"
	}
	return ""
}

// beginsWithPiece looks for a ModelProto whose first field is a piece that begins
// with its text, the order in which protobuf writes it.
func beginsWithPiece(data []byte) bool {
	const tag = 1<<3 | byte(wireBytes)
	field := func(data []byte) ([]byte, bool) {
		if len(data) == 0 || data[0] != tag {
			return nil, false
		}
		size, n := binary.Uvarint(data[1:])
		if n <= 0 || size > uint64(len(data)-1-n) {
			return nil, false
		}
		return data[1+n:][:size], true
	}
	piece, ok := field(data)
	if !ok {
		return false
	}
	text, ok := field(piece)
	if !ok || len(text) == 0 {
		return false
	}
	in := message{file: piece, end: len(piece)}
	return in.fields(func(value) error { return nil }) == nil
}

func beginsWithRank(data []byte) bool {
	line, _, _ := bytes.Cut(data[:min(len(data), 1<<16)], []byte("\n"))
	code, digits, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\r")), []byte(" "))
	if !ok || len(code) == 0 {
		return false
	}
	if _, err := appendBase64(nil, code); err != nil {
		return false
	}
	_, ok = readRank(digits)
	return ok
}

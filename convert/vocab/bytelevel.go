package vocab

import "unicode/utf8"

// byteChars spells every byte as a printable character, as GPT-2 does: printable
// bytes of Latin-1 as themselves, the others in order from U+0100.
var byteChars = func() (table [256]rune) {
	next := rune(0x100)
	for b := range table {
		switch r := rune(b); {
		case r > ' ' && r < 0x7F, r > 0xA0 && r != 0xAD:
			table[b] = r
		default:
			table[b] = next
			next++
		}
	}
	return table
}()

// appendByteLevel appends bytes as a JSON string of their characters.
func appendByteLevel(dst, token []byte) []byte {
	dst = append(dst, '"')
	for _, b := range token {
		if b == '"' || b == '\\' {
			dst = append(dst, '\\')
		}
		dst = utf8.AppendRune(dst, byteChars[b])
	}
	return append(dst, '"')
}

// spelledBytes returns the bytes that the characters of a text spell; false where
// one spells none.
func spelledBytes(text []byte) ([]byte, bool) {
	out := make([]byte, 0, len(text))
chars:
	for _, r := range string(text) {
		for b, c := range byteChars {
			if c == r {
				out = append(out, byte(b))
				continue chars
			}
		}
		return nil, false
	}
	return out, true
}

package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// byteChars spells every byte as a printable character, as GPT-2 does: the
// printable bytes of Latin-1 as themselves, the others as U+0100 and up.
var byteChars = func() (table [256]string) {
	next := rune(0x100)
	for b := range table {
		r := rune(b)
		if !(r >= '!' && r <= '~' || r >= 0xA1 && r <= 0xAC || r >= 0xAE) {
			r = next
			next++
		}
		table[b] = string(r)
	}
	return table
}()

// charBytes is the way back; -1 where a character spells no byte.
var charBytes = func() (table [0x144]int16) {
	for i := range table {
		table[i] = -1
	}
	for b, s := range byteChars {
		r, _ := utf8.DecodeRuneInString(s)
		table[r] = int16(b)
	}
	return table
}()

func appendByteChars(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		dst = append(dst, byteChars[s[i]]...)
	}
	return dst
}

func bytesToChars(s string) string {
	return string(appendByteChars(make([]byte, 0, len(s)+len(s)/4), s))
}

// appendCharBytes appends the bytes that a token spells or, where a character
// of it spells none, the token itself.
func appendCharBytes(dst []byte, token string) []byte {
	n := len(dst)
	for _, r := range token {
		if int(r) >= len(charBytes) || charBytes[r] < 0 {
			return append(dst[:n], token...)
		}
		dst = append(dst, byte(charBytes[r]))
	}
	return dst
}

// utf8Prefix looks at the front of b. n > 0 is the length of a whole
// character; n < 0 says that the first -n bytes are a maximal prefix of a
// character that goes on wrongly (Unicode 15, section 3.9, table 3-8), or a
// byte that begins none; 0 says that b ends inside a character, or is empty.
func utf8Prefix(b []byte) (n int) {
	if len(b) == 0 {
		return 0
	}
	lo, hi, size := byte(0x80), byte(0xBF), 0
	switch c := b[0]; {
	case c < 0x80:
		return 1
	case c >= 0xC2 && c <= 0xDF:
		size = 2
	case c >= 0xE0 && c <= 0xEF:
		size = 3
		switch c {
		case 0xE0:
			lo = 0xA0
		case 0xED:
			hi = 0x9F
		}
	case c >= 0xF0 && c <= 0xF4:
		size = 4
		switch c {
		case 0xF0:
			lo = 0x90
		case 0xF4:
			hi = 0x8F
		}
	default:
		return -1
	}
	for i := 1; i < size; i++ {
		if i >= len(b) {
			return 0
		}
		if b[i] < lo || b[i] > hi {
			return -i
		}
		lo, hi = 0x80, 0xBF
	}
	return size
}

const replacement = "\uFFFD"

// lossyPrefix moves the front of b into dst, whatever is certain of it, with
// U+FFFD for what is not UTF-8, and returns the rest: the begin of a character.
func lossyPrefix(dst, b []byte) (text, rest []byte) {
	for {
		n := utf8Prefix(b)
		switch {
		case n > 0:
			dst, b = append(dst, b[:n]...), b[n:]
		case n < 0:
			dst, b = append(dst, replacement...), b[-n:]
		default:
			return dst, b
		}
	}
}

// lossy makes UTF-8 of any string, as Rust's String::from_utf8_lossy does.
func lossy(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	text, rest := lossyPrefix(make([]byte, 0, len(s)+len(s)/2), []byte(s))
	if len(rest) > 0 {
		text = append(text, replacement...)
	}
	return string(text)
}

// byteToken reads the spelling <0xHH> of a byte.
func byteToken(s string) (byte, bool) {
	if len(s) != 6 || !strings.HasPrefix(s, "<0x") || s[5] != '>' {
		return 0, false
	}
	hi, ok1 := hexDigit(s[3])
	lo, ok2 := hexDigit(s[4])
	if s[3] == '+' { // Rust's integer parser takes a sign
		hi, ok1 = 0, true
	}
	return hi<<4 | lo, ok1 && ok2
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

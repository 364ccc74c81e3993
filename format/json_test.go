package format

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

type short [4]byte

func (h short) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h[:])), nil }

func (h *short) UnmarshalText(b []byte) error {
	v, err := hex.DecodeString(string(b))
	copy(h[:], v)
	return err
}

type inner struct {
	Theta float32 `json:"theta"`
	Eps   float64 `json:"eps"`
}

type outer struct {
	Zed      string           `json:"zed"`
	Name     string           `json:"name"`
	Count    int              `json:"count"`
	Byte     uint8            `json:"byte"`
	Flag     bool             `json:"flag"`
	IDs      []int            `json:"ids"`
	Pair     [2]float32       `json:"pair"`
	Rope     *inner           `json:"rope"`
	Hash     short            `json:"hash"`
	Extra    map[string]inner `json:"extra"`
	Maybe    string           `json:"maybe,omitempty"`
	MaybeIDs []int            `json:"maybe_ids,omitempty"`
	Skipped  int              `json:"-"`
}

const outerJSON = `{"byte":255,"count":-7,"extra":{"a":{"eps":1e-7,"theta":0.1}},"flag":true,"hash":"01020304",` +
	`"ids":[1,2],"name":"a\n\u0001é` + "\u2028" + `<","pair":[0.1,16777216],"rope":{"eps":0.00001,"theta":500000},"zed":""}`

func outerValue() outer {
	return outer{
		Name: "a\n\x01é\u2028<", Count: -7, Byte: 255, Flag: true, IDs: []int{1, 2}, Pair: [2]float32{0.1, 1 << 24},
		Rope: &inner{500000, 1e-5}, Hash: short{1, 2, 3, 4}, Extra: map[string]inner{"a": {0.1, 1e-7}},
	}
}

func TestJSONRoundTrip(t *testing.T) {
	b, err := EncodeJSON(outerValue())
	require.NoError(t, err)
	require.Equal(t, outerJSON, string(b))
	got := outer{Maybe: "old", Name: "old"}
	require.NoError(t, DecodeJSON([]byte(outerJSON), &got))
	require.Equal(t, outerValue(), got)

	null := strings.Replace(outerJSON, `{"eps":0.00001,"theta":500000}`, "null", 1)
	require.NoError(t, DecodeJSON([]byte(null), &got))
	require.Nil(t, got.Rope)
}

func TestDecodeJSONRefuses(t *testing.T) {
	swap := func(old, new string) string {
		require.Contains(t, outerJSON, old)
		return strings.Replace(outerJSON, old, new, 1)
	}
	for _, c := range []struct {
		name, data string
		at         string // the offset is where this begins
		want       string
	}{
		{"empty", "", "", "a value"},
		{"trailing", outerJSON + " ", " ", "the end of the data"},
		{"cut", outerJSON[:len(outerJSON)-1], "", "','"},
		{"space", swap(`"count":`, `"count": `), ` -7`, "no spaces"},
		{"line end", swap(`"count":`, "\n"+`"count":`), "\n", "no spaces"},
		{"duplicate key", swap(`"count":-7`, `"byte":255`), `"byte":255,"extra"`, "each key once"},
		{"unsorted keys", swap(`"flag":true,"hash":"01020304"`, `"hash":"01020304","flag":true`), `"flag"`, "sorted keys"},
		{"unknown key", swap(`"flag"`, `"flag":true,"foo"`), `"foo"`, `unknown key "foo"`},
		{"another case", swap(`"byte"`, `"Byte"`), `"Byte"`, `unknown key "Byte"`},
		{"missing key", swap(`"count":-7,`, ``), `{`, `without the key "count"`},
		{"missing last key", swap(`,"zed":""`, ``), `{`, `without the key "zed"`},
		{"missing inner key", swap(`"eps":1e-7,`, ``), `{"theta":0.1`, `value.extra.a is without the key "eps"`},
		{"empty optional", swap(`"name"`, `"maybe":"","name"`), `maybe":""`, "one canonical encoding"},
		{"empty optional list", swap(`"name"`, `"maybe_ids":[],"name"`), `maybe_ids"`, "one canonical encoding"},
		{"escaped slash", swap(`""`, `"\/"`), `\/`, "stands for itself"},
		{"escaped letter", swap(`""`, `"\u0041"`), `\u0041`, "stands for itself"},
		{"long escape of a line end", swap(`\n`, `\u000a`), `\u000a`, "stands for itself"},
		{"upper-case escape", swap(`\u0001`, `\u001F`), `\u001F`, "stands for itself"},
		{"escaped surrogate", swap(`""`, `"\ud83d\ude00"`), `\ud83d`, "stands for itself"},
		{"cut escape", swap(`""`, `"\u00`), `\u00}`, "stands for itself"},
		{"raw control character", swap(`\n`, "\n"), "\n", "an escape"},
		{"invalid UTF-8", swap(`""`, "\"\xff\""), "\xff", "valid UTF-8"},
		{"cut UTF-8", swap(`""`, "\"\xe2\x80\""), "\xe2\x80\"", "valid UTF-8"},
		{"surrogate in UTF-8", swap(`""`, "\"\xed\xa0\x80\""), "\xed", "valid UTF-8"},
		{"unterminated", swap(`""`, `"abc`), "", "a string does not end"},
		{"superfluous zero", swap(`-7`, `-07`), `07`, "-7"},
		{"plus", swap(`-7`, `+7`), `+7`, "a value"},
		{"minus zero", swap(`-7`, `-0`), `-0`, "want 0"},
		{"fraction of an integer", swap(`-7`, `-7.0`), `.0`, "-7"},
		{"exponent of an integer", swap(`[1,2]`, `[1,2e0]`), `e0`, "want 2"},
		{"exponent form", swap(`1e-7`, `1e-07`), `07`, "1e-7"},
		{"upper-case exponent", swap(`1e-7`, `1E-7`), `E-7`, "1e-7"},
		{"no exponent needed", swap(`0.00001`, `1e-5`), `1e-5`, "0.00001"},
		{"overflow", swap(`0.00001`, `1e999`), `1e999`, "a finite number"},
		{"NaN", swap(`0.00001`, `NaN`), `NaN`, "a value"},
		{"digits beyond a double", swap(`0.00001`, `0.10000000000000000001`), `0000000000000000001`, "0.1"},
		{"digits beyond a float32", swap(`"theta":0.1`, `"theta":0.10000000149011612`), `0000000149011612`, "one canonical encoding"},
		{"a very long number", swap(`0.00001`, "1"+strings.Repeat("0", 100)), `0000000000000000000000000`, "ECMAScript"},
		{"float32 overflow", swap(`"theta":0.1`, `"theta":1e+39`), `1e+39`, "32-bit float"},
		{"fraction", swap(`-7`, `-7.5`), `-7.5`, "an integer of "},
		{"integer over its type", swap(`255`, `256`), `256`, "an integer of 8 bits from 0"},
		{"negative", swap(`255`, `-1`), `-1`, "from 0"},
		{"integer beyond 2^53", swap(`-7`, `9007199254740992`), `9007199254740992`, "2^53-1"},
		{"number for a string", swap(`""`, `true`), `true}`, "a string"},
		{"string for a number", swap(`-7`, `"-7"`), `"-7"`, "an integer"},
		{"null for a list", swap(`[1,2]`, `null`), `null`, "an array"},
		{"list for an object", swap(`{"a":{"eps":1e-7,"theta":0.1}}`, `[]`), `[]`, "an object"},
		{"number for a flag", swap(`true`, `1`), `1,"hash"`, "true or false"},
		{"short array", swap(`[0.1,16777216]`, `[0.1]`), `[0.1]`, "2 elements"},
		{"long array", swap(`[0.1,16777216]`, `[0.1,2,[3]]`), `[0.1,2`, "2 elements"},
		{"bad text", swap(`01020304`, `0102030g`), `"0102030g"`, "invalid byte"},
		{"number for a text", swap(`"01020304"`, `5`), `5,"ids"`, "a string"},
		{"list element", swap(`[1,2]`, `[1,true]`), `true]`, "value.ids[1]"},
		{"trailing comma", swap(`[1,2]`, `[1,2,]`), `],"name"`, "a value"},
		{"depth", swap(`[1,2]`, `[[[[1]]]]`), `[1]]]]`, "at most 4 levels"},
		{"word", swap(`true`, `truE`), `truE`, "true"},
		{"NUL", "\x00", "\x00", "a value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var v outer
			err := DecodeJSON([]byte(c.data), &v)
			at := len(c.data)
			if c.at != "" {
				at = strings.Index(c.data, c.at)
				require.GreaterOrEqual(t, at, 0)
			}
			var fe *FormatError
			require.ErrorAs(t, err, &fe)
			require.Equal(t, ClassConfig, fe.Class)
			require.Contains(t, err.Error(), c.want)
			require.Equal(t, int64(at), fe.Offset, "%v", err)
		})
	}
}

func TestEncodeJSONRefuses(t *testing.T) {
	for want, v := range map[string]any{
		"NaN":       math.NaN(),
		"+Inf":      float32(math.Inf(1)),
		"-Inf":      []float64{math.Inf(-1)},
		"2^53-1":    int64(1 << 53),
		"-90071992": int64(-1 << 53),
		"18446744":  uint64(math.MaxUint64),
		"UTF-8":     map[string]int{"\xff": 1},
		"not valid": struct {
			A string `json:"a"`
		}{"\xc0"},
		"4 deep in ": [][][][][]int{{{{{}}}}},
	} {
		_, err := EncodeJSON(v)
		require.ErrorContains(t, err, want)
	}
	require.Panics(t, func() { _, _ = EncodeJSON(struct{ A int }{}) }, "a field without a tag")
	require.Panics(t, func() { _, _ = EncodeJSON(make(chan int)) })
	require.Panics(t, func() { _ = DecodeJSON([]byte("1"), 1) })
}

// TestNumbers holds the examples of RFC 8785, appendix B, and Go's rules for
// float32.
func TestNumbers(t *testing.T) {
	for bits, want := range map[uint64]string{
		0x0000000000000000: "0",
		0x8000000000000000: "0",
		0x0000000000000001: "5e-324",
		0x8000000000000001: "-5e-324",
		0x7fefffffffffffff: "1.7976931348623157e+308",
		0xffefffffffffffff: "-1.7976931348623157e+308",
		0x4340000000000000: "9007199254740992",
		0x4430000000000000: "295147905179352830000",
		0x44b52d02c7e14af5: "9.999999999999997e+22",
		0x44b52d02c7e14af6: "1e+23",
		0x444b1ae4d6e2ef4f: "999999999999999900000",
		0x444b1ae4d6e2ef50: "1e+21",
		0x3eb0c6f7a0b5ed8d: "0.000001",
		0x3eb0c6f7a0b5ed8c: "9.999999999999997e-7",
		0x41b3de4355555553: "333333333.3333332",
		0xbecbf647612f3696: "-0.0000033333333333333333",
	} {
		b, err := EncodeJSON(math.Float64frombits(bits))
		require.NoError(t, err)
		require.Equal(t, want, string(b))
		require.Nil(t, checkCanonical(b))
	}
	for f, want := range map[float32]string{
		1e-6: "0.000001", 1e-5: "0.00001", 9.9999e-7: "9.9999e-7", 1e21: "1e+21", 1e20: "100000000000000000000",
		math.MaxFloat32: "3.4028235e+38", math.SmallestNonzeroFloat32: "1e-45", 16777216: "16777216", 0.7: "0.7",
	} {
		b, err := EncodeJSON(f)
		require.NoError(t, err)
		require.Equal(t, want, string(b))
	}
}

func TestFloat32Property(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := math.Float32frombits(rapid.Uint32().Draw(t, "bits"))
		if f != f || math.IsInf(float64(f), 0) {
			return
		}
		b, err := EncodeJSON(f)
		require.NoError(t, err)
		var got float32
		require.NoError(t, DecodeJSON(b, &got))
		require.Equal(t, f, got)
	})
}

// TestEscapes round-trips every ASCII character.
func TestEscapes(t *testing.T) {
	var all []byte
	for c := range 128 {
		all = append(all, byte(c))
	}
	b, err := EncodeJSON(string(all))
	require.NoError(t, err)
	require.Contains(t, string(b), `"\u0000\u0001\u0002\u0003\u0004\u0005\u0006\u0007\b\t\n\u000b\f\r\u000e`)
	require.Contains(t, string(b), ` !\"#$%&'()*+,-./0`)
	var got string
	require.NoError(t, DecodeJSON(b, &got))
	require.Equal(t, string(all), got)
	require.NoError(t, json.Unmarshal(b, &got))
	require.Equal(t, string(all), got)
}

// TestKeyOrder sorts by UTF-16 (the example of RFC 8785, 3.2.3).
func TestKeyOrder(t *testing.T) {
	b, err := EncodeJSON(map[string]int{"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7, "": 8})
	require.NoError(t, err)
	want := `{"":8,"\r":2,"1":4,"` + "\u0080" + `":6,"` + "\u00f6" + `":7,"` + "\u20ac" + `":1,"` + "\U0001f600" + `":5,"` + "\ufb33" + `":3}`
	require.Equal(t, want, string(b))
	var back map[string]int
	require.NoError(t, DecodeJSON(b, &back))
	require.Len(t, back, 8)
}

// FuzzJSON compares the scanner with encoding/json: what it accepts is valid,
// and compact with sorted keys.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{outerJSON, `{}`, `[]`, `null`, `[1,-2.5,1e+21,"a\\b"]`, `{"a":{"b":[1]}}`, `"\u001f"`, `[[[[1]]]]`, `{"a":1,"a":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e := checkCanonical(data)
		if e != nil {
			if e.Offset < 0 || e.Offset > int64(len(data)) {
				t.Fatalf("offset %d of %d bytes", e.Offset, len(data))
			}
		} else {
			d := json.NewDecoder(bytes.NewReader(data))
			var v any
			if err := d.Decode(&v); err != nil {
				t.Fatalf("accepted %q, encoding/json: %v", data, err)
			}
			again, err := EncodeJSON(v)
			if err != nil || !bytes.Equal(again, data) {
				t.Fatalf("accepted %q, whose canonical form is %q (%v)", data, again, err)
			}
		}
		var v outer
		if err := DecodeJSON(data, &v); err == nil {
			again, err := EncodeJSON(v)
			if err != nil || !bytes.Equal(again, data) {
				t.Fatalf("decoded %q, which is %q (%v)", data, again, err)
			}
		}
	})
}

package format

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"
)

// EncodeJSON returns the canonical JSON of v (spec/trit-v1.md, 6; RFC 8785):
// keys sorted, no spaces, numbers as ECMAScript prints them, only necessary
// escapes. v is built from structs whose exported fields have json tags (with
// omitempty as in encoding/json), maps with string keys, slices, arrays,
// strings, booleans, integers, floats, and types with MarshalText, which become
// strings. A nil pointer or interface is null, a nil slice or map is empty. A
// float32 is written with the fewest digits that give it back. It fails on NaN,
// infinities, integers beyond 2^53-1, invalid UTF-8 and more than MaxJSONDepth
// levels.
func EncodeJSON(v any) ([]byte, error) {
	return appendJSON(nil, reflect.ValueOf(v), 0)
}

func appendJSON(b []byte, v reflect.Value, depth int) ([]byte, error) {
	if !v.IsValid() || (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) && v.IsNil() {
		return append(b, "null"...), nil
	}
	if v.Type().Implements(textMarshaler) {
		text, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		if err != nil {
			return nil, err
		}
		return appendString(b, string(text))
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return appendJSON(b, v.Elem(), depth)
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if n := v.Int(); n < -maxExactInt || n > maxExactInt {
			return nil, fmt.Errorf("integer %d does not fit a JSON number, want at most 2^53-1; store it as a string", n)
		}
		return strconv.AppendInt(b, v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if n := v.Uint(); n > maxExactInt {
			return nil, fmt.Errorf("integer %d does not fit a JSON number, want at most 2^53-1; store it as a string", n)
		}
		return strconv.AppendUint(b, v.Uint(), 10), nil
	case reflect.Float32:
		return appendFloat32(b, float32(v.Float()))
	case reflect.Float64:
		return appendFloat(b, v.Float())
	case reflect.String:
		return appendString(b, v.String())
	}
	if depth == MaxJSONDepth {
		return nil, fmt.Errorf("JSON is nested more than %d deep in a %v", MaxJSONDepth, v.Type())
	}
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		return appendArray(b, v, depth)
	case reflect.Struct:
		return appendStruct(b, v, depth)
	case reflect.Map:
		if v.Type().Key().Kind() == reflect.String {
			return appendMap(b, v, depth)
		}
	}
	panic(fmt.Sprintf("format: EncodeJSON of a %v", v.Type()))
}

func appendArray(b []byte, v reflect.Value, depth int) (_ []byte, err error) {
	b = append(b, '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendJSON(b, v.Index(i), depth+1); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

func appendStruct(b []byte, v reflect.Value, depth int) (_ []byte, err error) {
	b = append(b, '{')
	first := true
	for _, f := range fieldsOf(v.Type()) {
		fv := v.Field(f.index)
		if f.absent(fv) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		if b, err = appendString(b, f.key); err != nil {
			return nil, err
		}
		if b, err = appendJSON(append(b, ':'), fv, depth+1); err != nil {
			return nil, fmt.Errorf("%s: %w", f.key, err)
		}
	}
	return append(b, '}'), nil
}

func appendMap(b []byte, v reflect.Value, depth int) (_ []byte, err error) {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(x, y reflect.Value) int { return compareKeys(x.String(), y.String()) })
	b = append(b, '{')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendString(b, k.String()); err != nil {
			return nil, err
		}
		if b, err = appendJSON(append(b, ':'), v.MapIndex(k), depth+1); err != nil {
			return nil, fmt.Errorf("%s: %w", k.String(), err)
		}
	}
	return append(b, '}'), nil
}

// appendString escapes what JSON demands and nothing else (RFC 8785, 3.2.2.2).
func appendString(b []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, fmt.Errorf("string %q is not valid UTF-8", s)
	}
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\t':
			b = append(b, `\t`...)
		case '\n':
			b = append(b, `\n`...)
		case '\f':
			b = append(b, `\f`...)
		case '\r':
			b = append(b, `\r`...)
		default:
			if c < 0x20 {
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			} else {
				b = append(b, c)
			}
		}
	}
	return append(b, '"'), nil
}

// appendFloat prints a double as ECMAScript does: the fewest digits that give
// it back, an exponent below 1e-6 and from 1e21 on, and no sign for zero.
func appendFloat(b []byte, f float64) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, fmt.Errorf("%v is not a JSON number", f)
	}
	if f == 0 {
		return append(b, '0'), nil
	}
	if abs := math.Abs(f); abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(b, f, 'f', -1, 64), nil
	}
	b = strconv.AppendFloat(b, f, 'e', -1, 64)
	// Go writes at least two digits of exponent, ECMAScript the necessary ones.
	if n := len(b); b[n-2] == '0' && (b[n-3] == '-' || b[n-3] == '+') {
		b[n-2] = b[n-1]
		b = b[:n-1]
	}
	return b, nil
}

// appendFloat32 prints the shortest decimal that rounds to f. It has at most 9
// digits, so that the double nearest to it prints the same ones.
func appendFloat32(b []byte, f float32) ([]byte, error) {
	d, err := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', -1, 32), 64)
	if err != nil {
		return nil, fmt.Errorf("%v is not a JSON number", f)
	}
	return appendFloat(b, d)
}

package format

import (
	"cmp"
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// Integers beyond this are not exact as IEEE doubles, which the numbers of
// canonical JSON are (RFC 8785, 3.2.2.3).
const maxExactInt = 1<<53 - 1

// field is a struct field with its key in JSON.
type field struct {
	key      string
	index    int
	optional bool // omitempty: absent when it is the zero value or empty
}

var structs sync.Map // reflect.Type -> []field, ascending by key

// fieldsOf returns a struct's exported fields in the order of their keys. Each
// needs a json tag, and two must not have the same key: both are errors of the
// program.
func fieldsOf(t reflect.Type) []field {
	if f, ok := structs.Load(t); ok {
		return f.([]field)
	}
	var list []field
	for i := range t.NumField() {
		sf := t.Field(i)
		tag, tagged := sf.Tag.Lookup("json")
		if !sf.IsExported() || tag == "-" {
			continue
		}
		key, opts, _ := strings.Cut(tag, ",")
		if !tagged || key == "" || opts != "" && opts != "omitempty" {
			panic(fmt.Sprintf("format: field %v.%s needs a tag json:\"key\" or json:\"key,omitempty\"", t, sf.Name))
		}
		list = append(list, field{key, i, opts != ""})
	}
	slices.SortFunc(list, func(a, b field) int { return compareKeys(a.key, b.key) })
	for i := 1; i < len(list); i++ {
		if list[i].key == list[i-1].key {
			panic(fmt.Sprintf("format: %v has two fields with the key %q", t, list[i].key))
		}
	}
	structs.Store(t, list)
	return list
}

func (f *field) absent(v reflect.Value) bool {
	if !f.optional {
		return false
	}
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	}
	return v.IsZero()
}

// compareKeys orders keys by their UTF-16 code units (RFC 8785, 3.2.3), which
// differs from the order of UTF-8 only between U+E000..U+FFFF and the
// characters beyond: those begin with a surrogate.
func compareKeys(a, b string) int {
	for a != "" && b != "" {
		ra, na := utf8.DecodeRuneInString(a)
		rb, nb := utf8.DecodeRuneInString(b)
		if ra != rb {
			if (ra > 0xffff) != (rb > 0xffff) {
				return cmp.Compare(firstUnit(ra), firstUnit(rb))
			}
			return cmp.Compare(ra, rb)
		}
		a, b = a[na:], b[nb:]
	}
	return cmp.Compare(len(a), len(b))
}

// firstUnit is the first UTF-16 code unit of r, or a surrogate's place for
// every character that needs two.
func firstUnit(r rune) rune {
	if r > 0xffff {
		return 0xd800
	}
	return r
}

var (
	textMarshaler   = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

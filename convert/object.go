package convert

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// object is one JSON object of a checkpoint's configuration, read key by key: the
// names are exact, a value of the wrong type is an error that quotes it, and the
// keys that nobody asked for are known at the end.
type object struct {
	where  string // "config.json", "config.json: rope_scaling"
	fields map[string]json.RawMessage
	asked  map[string]bool
	err    error // the first
}

func parseObject(where string, data []byte) (*object, error) {
	o := &object{where: where, fields: map[string]json.RawMessage{}, asked: map[string]bool{}}
	d := json.NewDecoder(bytes.NewReader(data))
	bad := func(got string) error {
		return fmt.Errorf("%s: offset %d: %s, want one JSON object", where, d.InputOffset(), got)
	}
	if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
		return nil, bad("begins with " + shorten(data))
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, bad(err.Error())
		}
		name := key.(string) // a decoder gives only strings here
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, bad(err.Error())
		}
		if _, twice := o.fields[name]; twice {
			return nil, fmt.Errorf("%s: offset %d: key %q appears twice, want each key once", where, d.InputOffset(), name)
		}
		o.fields[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, bad("the file ends inside the object")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, bad("something follows the object")
	}
	return o, nil
}

// get decodes a key into v and reports whether it is there; null counts as absent.
func (o *object) get(key, want string, v any) bool {
	o.asked[key] = true
	raw, ok := o.fields[key]
	if !ok || string(raw) == "null" {
		return false
	}
	if err := json.Unmarshal(raw, v); err != nil {
		o.fail("%s is %s, want %s", key, shorten(raw), want)
		return false
	}
	return true
}

func (o *object) fail(format string, args ...any) {
	if o.err == nil {
		o.err = fmt.Errorf("%s: %s", o.where, fmt.Sprintf(format, args...))
	}
}

func (o *object) integer(key string) (v int, ok bool) {
	ok = o.get(key, "an integer", &v)
	return v, ok
}

func (o *object) number(key string) (v float64, ok bool) {
	ok = o.get(key, "a number", &v)
	return v, ok
}

func (o *object) str(key string) (v string, ok bool) {
	ok = o.get(key, "a string", &v)
	return v, ok
}

func (o *object) boolean(key string) (v, ok bool) {
	ok = o.get(key, "true or false", &v)
	return v, ok
}

func (o *object) strings(key string) (v []string, ok bool) {
	return list[string](o, key, "a list of strings")
}

// list reads a list whose elements are all there: null is not an element.
func list[T any](o *object, key, want string) (v []T, ok bool) {
	var elements []*T
	if !o.get(key, want, &elements) {
		return nil, false
	}
	v = []T{}
	for _, e := range elements {
		if e == nil {
			o.fail("%s is %s, want %s without null", key, shorten(o.fields[key]), want)
			return nil, false
		}
		v = append(v, *e)
	}
	return v, true
}

// integers reads one integer or a list of them.
func (o *object) integers(key string) (v []int, ok bool) {
	if raw := bytes.TrimSpace(o.fields[key]); len(raw) > 0 && raw[0] == '[' {
		return list[int](o, key, "an integer or a list of integers")
	}
	one, ok := o.integer(key)
	if ok {
		v = []int{one}
	}
	return v, ok
}

// object reads a nested object; absent or null gives nil.
func (o *object) object(key string) *object {
	var raw json.RawMessage
	if !o.get(key, "an object", &raw) {
		return nil
	}
	inner, err := parseObject(o.where+": "+key, raw)
	if err != nil {
		if o.err == nil {
			o.err = err
		}
		return nil
	}
	return inner
}

// need reads a positive integer that must be there.
func (o *object) need(key string) int {
	v, ok := o.integer(key)
	if !ok {
		o.fail("no %s, want a positive integer", key)
	} else if v <= 0 {
		o.fail("%s is %d, want a positive integer", key, v)
	}
	return v
}

// rest returns the keys that were not asked for, sorted.
func (o *object) rest() []string {
	var keys []string
	for k := range o.fields {
		if !o.asked[k] {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

func shorten(raw []byte) string {
	const most = 60
	if len(raw) > most {
		return strconv.Quote(string(raw[:most])) + "..."
	}
	return string(raw)
}

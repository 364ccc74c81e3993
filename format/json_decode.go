package format

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
)

// DecodeJSON decodes canonical JSON into the value that v points to, of the
// types that EncodeJSON knows, interfaces excepted; types with UnmarshalText
// are read from strings. It is strict: data must be valid UTF-8 and canonical
// at every byte; a key that the struct lacks, a field without its key (unless
// omitempty), a value of another type or out of its range, and a value that
// would be encoded differently (a float32 with superfluous digits) are refused.
// The error is a *FormatError of class config whose offset counts from the
// start of data. On an error v may be partly set.
func DecodeJSON(data []byte, v any) error {
	if e := decodeJSON(data, v); e != nil {
		return e
	}
	return nil
}

func decodeJSON(data []byte, v any) *FormatError {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		panic(fmt.Sprintf("format: DecodeJSON into a %T, want a pointer", v))
	}
	if e := checkCanonical(data); e != nil {
		return e
	}
	d := &decoder{jsonScanner: jsonScanner{data: data}, path: []byte("value")}
	d.into(p.Elem())
	if d.err != nil {
		return d.err
	}
	again, err := EncodeJSON(v)
	if err != nil {
		return &FormatError{ClassConfig, 0, "JSON", err.Error(), "a value that can be encoded", ""}
	}
	for i := range max(len(data), len(again)) {
		if i >= len(data) || i >= len(again) || data[i] != again[i] {
			return &FormatError{ClassConfig, int64(i), "JSON", quote(data[min(i, len(data)):]), quote(again[min(i, len(again)):]), "the value has one canonical encoding"}
		}
	}
	return nil
}

// decoder assigns data that is known to be canonical JSON.
type decoder struct {
	jsonScanner
	path []byte // of the value being read, for errors
}

// raw skips a value and returns its bytes.
func (d *decoder) raw() []byte {
	start := d.off
	d.value(0)
	return d.data[start:d.off]
}

func (d *decoder) wrong(at int, got, want string) {
	if d.err == nil {
		d.fail(at, got, want, "")
		d.err.Field = string(d.path)
	}
}

// member reads the value of an object's key into v.
func (d *decoder) member(v reflect.Value, key string) {
	n := len(d.path)
	d.path = append(append(d.path, '.'), key...)
	d.into(v)
	d.path = d.path[:n]
}

// element reads element i of an array into v.
func (d *decoder) element(v reflect.Value, i int) {
	n := len(d.path)
	d.path = append(strconv.AppendInt(append(d.path, '['), int64(i), 10), ']')
	d.into(v)
	d.path = d.path[:n]
}

// expect reports whether the value begins with c, and fails when it does not.
func (d *decoder) expect(c byte, want string) bool {
	if d.err == nil && d.peek() != c {
		d.wrong(d.off, quote(d.data[d.off:]), want)
	}
	return d.err == nil
}

func (d *decoder) into(v reflect.Value) {
	if d.err != nil {
		return
	}
	at := d.off
	if v.Addr().Type().Implements(textUnmarshaler) {
		if !d.expect('"', "a string") {
			return
		}
		text := d.str()
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
			d.wrong(at, quote(d.data[at:d.off]), err.Error())
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if d.peek() == 'n' {
			d.literal("null")
			v.SetZero()
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		d.into(v.Elem())
	case reflect.Struct:
		d.intoStruct(v)
	case reflect.Map:
		d.intoMap(v)
	case reflect.Slice:
		d.intoSlice(v)
	case reflect.Array:
		d.intoArray(v)
	case reflect.String:
		if d.expect('"', "a string") {
			v.SetString(d.str())
		}
	case reflect.Bool:
		raw := string(d.raw())
		if raw != "true" && raw != "false" {
			d.wrong(at, quote([]byte(raw)), "true or false")
			return
		}
		v.SetBool(raw == "true")
	default:
		d.intoNumber(v)
	}
}

func (d *decoder) intoNumber(v reflect.Value) {
	at := d.off
	raw := string(d.raw())
	want := ""
	switch v.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(raw, 10, v.Type().Bits())
		if err != nil || n < -maxExactInt || n > maxExactInt {
			want = fmt.Sprintf("an integer of %d bits, at most 2^53-1", v.Type().Bits())
		}
		v.SetInt(n)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(raw, 10, v.Type().Bits())
		if err != nil || n > maxExactInt {
			want = fmt.Sprintf("an integer of %d bits from 0, at most 2^53-1", v.Type().Bits())
		}
		v.SetUint(n)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(raw, v.Type().Bits())
		if err != nil {
			want = fmt.Sprintf("a number in the range of a %d-bit float", v.Type().Bits())
		}
		v.SetFloat(f)
	default:
		panic(fmt.Sprintf("format: DecodeJSON into a %v", v.Type()))
	}
	if want != "" {
		d.wrong(at, quote([]byte(raw)), want)
	}
}

func (d *decoder) intoStruct(v reflect.Value) {
	start := d.off
	if !d.expect('{', "an object") {
		return
	}
	fields := fieldsOf(v.Type())
	// Keys and fields are both sorted, so that one pass shows what is missing.
	absent := func(f field) {
		if !f.optional {
			d.wrong(start, "without the key "+strconv.Quote(f.key), "an object with it")
		}
		v.Field(f.index).SetZero()
	}
	d.members(func(key string, at int) {
		for len(fields) > 0 && compareKeys(fields[0].key, key) < 0 {
			absent(fields[0])
			fields = fields[1:]
		}
		if len(fields) == 0 || fields[0].key != key {
			d.wrong(at, "the unknown key "+strconv.Quote(key), "known keys only")
			return
		}
		d.member(v.Field(fields[0].index), key)
		fields = fields[1:]
	})
	for _, f := range fields {
		absent(f)
	}
}

// members calls fn at each value of an object, with its key and the key's
// offset.
func (d *decoder) members(fn func(key string, at int)) {
	d.off++
	for d.err == nil && !d.take('}') {
		d.take(',')
		at := d.off
		key := d.str()
		d.take(':')
		fn(key, at)
	}
}

func (d *decoder) intoMap(v reflect.Value) {
	if v.Type().Key().Kind() != reflect.String {
		panic(fmt.Sprintf("format: DecodeJSON into a %v", v.Type()))
	}
	if !d.expect('{', "an object") {
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	d.members(func(key string, _ int) {
		e := reflect.New(v.Type().Elem()).Elem()
		d.member(e, key)
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), e)
	})
}

func (d *decoder) intoSlice(v reflect.Value) {
	if !d.expect('[', "an array") {
		return
	}
	d.off++
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	for i := 0; d.err == nil && !d.take(']'); i++ {
		d.take(',')
		// Grown as elements come, so that memory follows the data.
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
		d.element(v.Index(i), i)
	}
}

func (d *decoder) intoArray(v reflect.Value) {
	start := d.off
	if !d.expect('[', "an array") {
		return
	}
	d.off++
	n := 0
	for ; d.err == nil && !d.take(']'); n++ {
		d.take(',')
		if n < v.Len() {
			d.element(v.Index(n), n)
		} else {
			d.raw()
		}
	}
	if n != v.Len() {
		d.wrong(start, fmt.Sprintf("an array of %d", n), fmt.Sprintf("%d elements", v.Len()))
	}
}

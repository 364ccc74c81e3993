package safetensors

import (
	"bytes"
	"io"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// requireGoodError holds what every error of a reader of bytes must be: one of
// the two kinds, complete, printable and short.
func requireGoodError(t testing.TB, err error) {
	_, e := parts(t, err)
	require.NotEmpty(t, e.File)
	require.NotEmpty(t, e.Field)
	require.NotEmpty(t, e.Got)
	require.NotEmpty(t, e.Want)
	require.Less(t, len(err.Error()), 1000)
	require.True(t, utf8.ValidString(err.Error()))
	for _, c := range err.Error() {
		require.False(t, c < ' ' || c == 0x7f, err)
	}
}

// requireWhole holds what a Reader promises of a file that it accepted.
func requireWhole(t testing.TB, r *Reader, file []byte) {
	var sum int64
	for i, tn := range r.Tensors() {
		if i > 0 {
			require.Less(t, r.Tensors()[i-1].Name, tn.Name)
		}
		require.Positive(t, tn.DType.Size())
		size := int64(tn.DType.Size())
		for _, d := range tn.Shape {
			size *= d
		}
		require.Equal(t, size, tn.Size)
		data, err := io.ReadAll(io.NewSectionReader(tn, 0, tn.Size))
		require.NoError(t, err)
		require.Equal(t, tn.Size, int64(len(data)))
		sum += tn.Size
	}
	// encoding/json must read the same; it is laxer, never stricter.
	p := parsePlainly(t, file)
	requireSame(t, r, map[string]plainFile{r.Files()[0]: p})
	header := int64(len(file)) - sum
	require.Equal(t, int64(prefix)+int64(len(file[prefix:header])), header)
}

// FuzzOpen opens arbitrary bytes: no panic, good errors, and what is accepted
// agrees with encoding/json, is read completely, and survives rewriting.
func FuzzOpen(f *testing.F) {
	for _, c := range refusals {
		if len(c.file) < 1<<16 {
			f.Add(c.file)
		}
	}
	f.Add(build("{}", 0))
	f.Add(build(two(0, 2, 2, 6), 6))
	f.Add(build(`{"__metadata__":{"format":"pt"},"a\u00e9\ud83d\ude00":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}} `, 12))
	f.Fuzz(requireSound)
}

// FuzzHeader is FuzzOpen with a header length that is always right, so that
// the fuzzer spends its time on the header.
func FuzzHeader(f *testing.F) {
	for _, c := range refusals {
		if len(c.file) > prefix && len(c.file) < 1<<16 {
			f.Add(c.file[prefix:], uint16(0))
		}
	}
	f.Add([]byte("{}"), uint16(0))
	f.Add([]byte(two(0, 2, 2, 6)), uint16(6))
	f.Add([]byte(`{"__metadata__":{"format":"pt"},"a\u00e9\ud83d\ude00":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}} `), uint16(12))
	f.Fuzz(func(t *testing.T, header []byte, data uint16) {
		requireSound(t, build(string(header), int(data)))
	})
}

func requireSound(t *testing.T, file []byte) {
	r, err := openBytes(file)
	if err != nil {
		requireGoodError(t, err)
		return
	}
	requireWhole(t, r, file)
	again, err := openBytes(rewrite(t, r))
	require.NoError(t, err)
	require.Equal(t, r.Metadata(), again.Metadata())
	require.Equal(t, len(r.Tensors()), len(again.Tensors()))
	for i, tn := range r.Tensors() {
		require.Equal(t, tn.Name, again.Tensors()[i].Name)
		require.Equal(t, tn.Shape, again.Tensors()[i].Shape)
	}
}

// FuzzIndex parses arbitrary bytes as an index and joins the shards 1 and 2,
// which hold tensors a and b, and c.
func FuzzIndex(f *testing.F) {
	for _, c := range indexRefusals {
		if len(c.text) < 1<<16 {
			f.Add([]byte(c.text))
		}
	}
	for _, s := range []string{
		`{"metadata":{"total_size":3},"weight_map":{"a":"1","b":"1","c":"2"}}`,
		`{"weight_map":{"a":"1","b":"2","c":"2"}}`,
		`{"weight_map":{"a":"1","b":"1"}}`,
		`{"weight_map":{"a":"1","b":"1","c":"3"}}`,
		`{"weight_map":{"a":"1"}}`,
	} {
		f.Add([]byte(s))
	}
	shards := map[string][]byte{"1": shardOf(f, nil, "a", "b"), "2": shardOf(f, nil, "c")}
	f.Fuzz(func(t *testing.T, text []byte) {
		ix, err := parseIndex(indexName, text)
		if err != nil {
			requireGoodError(t, err)
			return
		}
		for name, shard := range ix.WeightMap {
			require.NotEmpty(t, name)
			require.NotEmpty(t, shard)
			require.False(t, bytes.ContainsAny([]byte(shard), "/\\:\x00"))
			require.NotEqual(t, "..", shard)
		}
		r, err := ix.join(fromMemory(shards))
		if err != nil {
			requireGoodError(t, err)
			return
		}
		require.Equal(t, len(ix.WeightMap), len(r.Tensors()))
		for name, shard := range ix.WeightMap {
			tn, ok := r.Lookup(name)
			require.True(t, ok)
			require.Equal(t, shard, tn.File)
			require.Equal(t, tensor.U8, tn.DType)
		}
	})
}

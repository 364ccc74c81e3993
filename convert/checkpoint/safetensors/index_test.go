package safetensors

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

const indexName = "model.safetensors.index.json"

var indexRefusals = []struct {
	name        string
	text        string
	unsupported bool
	offset      int64
	field       string
	got, want   string
}{
	{name: "empty", text: "", offset: 0, field: "index", got: "the end", want: "an object"},
	{name: "array", text: "[]", offset: 0, field: "index", got: "an array", want: "an object"},
	{name: "no weight_map", text: `{"metadata":{}}`, offset: 0, field: "weight_map", got: "no tensors", want: "a shard for every tensor"},
	{name: "empty weight_map", text: `{"weight_map":{}}`, offset: 0, field: "weight_map", got: "no tensors", want: "a shard for every tensor"},
	{name: "weight_map not an object", text: `{"weight_map":[]}`, offset: 14, field: "weight_map", got: "an array", want: "an object"},
	{name: "weight_map twice", text: `{"weight_map":{},"weight_map":{"a":"s"}}`, offset: 17, field: "index", got: `key "weight_map" twice`, want: "once"},
	{name: "metadata twice", text: `{"metadata":{},"metadata":{}}`, offset: 15, field: "index", got: `key "metadata" twice`, want: "once"},
	{name: "metadata not an object", text: `{"metadata":1}`, offset: 12, field: "metadata", got: `"1"`, want: "an object"},
	{name: "metadata malformed", text: `{"metadata":{"a":01}}`, offset: 17, field: "metadata", got: `"01"`, want: "a JSON value"},
	{name: "metadata too deep", text: `{"metadata":` + strings.Repeat(`{"a":`, 40), unsupported: true, offset: 172, field: "metadata", got: "deeper nesting", want: "at most 32 levels"},
	{name: "arrays too deep", text: `{"metadata":{"a":` + strings.Repeat(`[`, 1000), unsupported: true, offset: 48, field: "metadata", got: "deeper nesting", want: "at most 32 levels"},
	{name: "unknown key", text: `{"weights":{}}`, offset: 1, field: "index", got: `key "weights"`, want: "metadata and weight_map only"},
	{name: "trailing text", text: `{"weight_map":{"a":"s"}} {}`, offset: 25, field: "index", got: "an object after its end", want: "nothing more"},
	{name: "trailing NUL", text: "{\"weight_map\":{\"a\":\"s\"}}\x00", offset: 24, field: "index", got: "0x00 after its end", want: "nothing more"},
	{name: "tensor twice", text: `{"weight_map":{"a":"s","a":"s"}}`, offset: 23, field: "weight_map", got: `key "a" twice`, want: "once"},
	{name: "shard not a string", text: `{"weight_map":{"a":1}}`, offset: 19, field: `tensor "a": shard`, got: `"1"`, want: "the name of its shard"},
	{name: "empty tensor name", text: `{"weight_map":{"":"s"}}`, offset: 15, field: "tensor name", got: "an empty name", want: "at least one character"},
	{name: "control character in a tensor name", text: `{"weight_map":{"\u0000":"s"}}`, offset: 15, field: "tensor name", got: `"\x00"`, want: "no control characters"},
	{name: "empty shard name", text: `{"weight_map":{"a":""}}`, offset: 19, field: `tensor "a": shard`, got: "an empty name", want: "at least one character"},
	{name: "folder", text: `{"weight_map":{"a":"x/s"}}`, offset: 19, field: `tensor "a": shard`, got: `"x/s"`, want: "plain name"},
	{name: "escaped slash", text: `{"weight_map":{"a":"x\/s"}}`, offset: 19, field: `tensor "a": shard`, got: `"x/s"`, want: "plain name"},
	{name: "backslash", text: `{"weight_map":{"a":"x\\s"}}`, offset: 19, field: `tensor "a": shard`, got: `"x\\s"`, want: "plain name"},
	{name: "absolute", text: `{"weight_map":{"a":"/etc/passwd"}}`, offset: 19, field: `tensor "a": shard`, got: `"/etc/passwd"`, want: "plain name"},
	{name: "drive", text: `{"weight_map":{"a":"C:s"}}`, offset: 19, field: `tensor "a": shard`, got: `"C:s"`, want: "plain name"},
	{name: "parent", text: `{"weight_map":{"a":".."}}`, offset: 19, field: `tensor "a": shard`, got: `".."`, want: "plain name"},
	{name: "parent's file", text: `{"weight_map":{"a":"../s"}}`, offset: 19, field: `tensor "a": shard`, got: `"../s"`, want: "plain name"},
	{name: "itself", text: `{"weight_map":{"a":"."}}`, offset: 19, field: `tensor "a": shard`, got: `"."`, want: "plain name"},
	{name: "NUL in a shard name", text: `{"weight_map":{"a":"s\u0000"}}`, offset: 19, field: `tensor "a": shard`, got: `"s\x00"`, want: "no control characters"},
	{name: "long shard name", text: `{"weight_map":{"a":"` + strings.Repeat("s", 256) + `"}}`, offset: 19, field: `tensor "a": shard`, got: "(256 bytes)", want: "plain name"},
	{name: "too many shards", text: manyShards(MaxShards + 1), unsupported: true, offset: -1, field: "shard", got: "a further shard", want: "at most 1024"},
	{name: "too many tensors", text: manyMapped(MaxTensors + 1), unsupported: true, offset: -1, field: "weight_map", got: "a further tensor", want: "at most 65536"},
	{name: "LFS pointer", text: "version https://git-lfs.github.com/spec/v1\n", offset: 0, field: "content", got: "a Git LFS pointer", want: "the file itself"},
}

// manyMapped maps n tensors to the shard s, manyShards each to one of its own.
func manyMapped(n int) string { return mapped(n, func(int) string { return "s" }) }
func manyShards(n int) string { return mapped(n, strconv.Itoa) }

func mapped(n int, shard func(i int) string) string {
	pairs := make([]string, n)
	for i := range pairs {
		pairs[i] = fmt.Sprintf("%q:%q", strconv.Itoa(i), shard(i))
	}
	return `{"weight_map":{` + strings.Join(pairs, ",") + `}}`
}

func TestIndexRefuses(t *testing.T) {
	for _, c := range indexRefusals {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseIndex(indexName, []byte(c.text))
			require.Error(t, err)
			unsupported, e := parts(t, err)
			require.Equal(t, c.unsupported, unsupported, err)
			require.Equal(t, indexName, e.File)
			if c.offset >= 0 {
				require.Equal(t, c.offset, e.Offset, err)
			}
			require.Contains(t, e.Field, c.field)
			require.Contains(t, e.Got, c.got)
			require.Contains(t, e.Want, c.want)
			for _, part := range []string{indexName, c.field, c.got, c.want} {
				require.Contains(t, err.Error(), part)
			}
		})
	}
}

func TestIndexTooLong(t *testing.T) {
	text := `{"weight_map":{"a":"s"}}`
	text += strings.Repeat(" ", MaxHeader-len(text))
	_, err := readIndex(indexName, strings.NewReader(text), MaxHeader)
	require.NoError(t, err)
	_, err = readIndex(indexName, strings.NewReader(text), MaxHeader+1)
	unsupported, e := parts(t, err)
	require.True(t, unsupported)
	require.Equal(t, "25000001 bytes", e.Got)
}

func TestIndexAccepts(t *testing.T) {
	ix, err := parseIndex(indexName, []byte(" \n{ \"metadata\" : {\"total_size\": 1e3, \"x\": [null, true, {\"y\": -0.5}, \"\", []]} ,\n"+
		`"weight_map": {"b": "2", "a": "1", "c": "2"}`+"}\r\n\t "))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "1", "b": "2", "c": "2"}, ix.WeightMap)
	require.Equal(t, []string{"1", "2"}, ix.Shards())

	ix, err = parseIndex(indexName, []byte(manyShards(MaxShards)))
	require.NoError(t, err)
	require.Len(t, ix.Shards(), MaxShards)
	ix, err = parseIndex(indexName, []byte(manyMapped(MaxTensors)))
	require.NoError(t, err)
	require.Equal(t, []string{"s"}, ix.Shards())
}

// shardOf returns a file whose tensors, one byte each, have these names.
func shardOf(t testing.TB, metadata map[string]string, names ...string) []byte {
	var tensors []WriteTensor
	for _, name := range names {
		tensors = append(tensors, WriteTensor{name, tensor.U8, []int64{1}, strings.NewReader(name[:1])})
	}
	var b bytes.Buffer
	require.NoError(t, Write(&b, tensors, metadata))
	return b.Bytes()
}

// TestShardsDisagree holds every way in which an index and its shards can be
// at odds. Tensors a and b are in shard 1, c in shard 2.
func TestShardsDisagree(t *testing.T) {
	const weightMap = `{"metadata":{"total_size":999},"weight_map":{"a":"1","b":"1","c":"2"}}`
	for _, c := range []struct {
		name       string
		one, two   []byte // nil: no such file
		field      string
		got, want  string
		otherError string
	}{
		{name: "in order", one: shardOf(t, nil, "a", "b"), two: shardOf(t, nil, "c")},
		{name: "shard missing", one: shardOf(t, nil, "a", "b"), field: `tensor "c"`, got: `no file "2"`, want: "the shard beside the index"},
		{name: "first shard missing", two: shardOf(t, nil, "c"), field: `tensor "a"`, got: `no file "1"`, want: "the shard beside the index"},
		{name: "tensor missing", one: shardOf(t, nil, "a"), two: shardOf(t, nil, "c"), field: `tensor "b"`, got: `no such tensor in "1"`, want: "weight_map"},
		{name: "tensor missing from the last", one: shardOf(t, nil, "a", "b"), two: shardOf(t, nil), field: `tensor "c"`, got: `no such tensor in "2"`, want: "weight_map"},
		{name: "tensor extra", one: shardOf(t, nil, "a", "b", "x"), two: shardOf(t, nil, "c"), field: `tensor "x"`, got: `it in "1" only`, want: "every tensor of a shard in the weight_map"},
		{name: "tensor in both", one: shardOf(t, nil, "a", "b"), two: shardOf(t, nil, "a", "c"), field: `tensor "a"`, got: `it in both "1" and "2"`, want: "it in one shard"},
		{name: "tensor in both, first in the wrong one", one: shardOf(t, nil, "a", "b", "c"), two: shardOf(t, nil, "c"), field: `tensor "c"`, got: `it in both "1" and "2"`, want: "it in one shard"},
		{name: "tensor in a later shard", one: shardOf(t, nil, "a"), two: shardOf(t, nil, "b", "c"), field: `tensor "b"`, got: `it in "2"`, want: `it in "1", as the weight_map says`},
		{name: "tensor in an earlier shard", one: shardOf(t, nil, "a", "b", "c"), two: shardOf(t, nil), field: `tensor "c"`, got: `it in "1"`, want: `it in "2", as the weight_map says`},
		{name: "shard damaged", one: shardOf(t, nil, "a", "b"), two: shardOf(t, nil, "c")[:20], otherError: "2: offset 0: header length"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, data := range map[string][]byte{indexName: []byte(weightMap), "1": c.one, "2": c.two} {
				if data != nil {
					require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
				}
			}
			ix, err := ReadIndex(filepath.Join(dir, indexName))
			require.NoError(t, err)
			r, err := ix.Open()
			if c.field == "" && c.otherError == "" {
				require.NoError(t, err)
				require.Equal(t, []string{"1", "2"}, r.Files())
				for _, name := range []string{"a", "b", "c"} {
					tn, ok := r.Lookup(name)
					require.True(t, ok)
					p := make([]byte, 1)
					_, err := tn.ReadAt(p, 0)
					require.NoError(t, err)
					require.Equal(t, name, string(p))
				}
				require.NoError(t, r.Close())
				return
			}
			require.Nil(t, r)
			unsupported, e := parts(t, err)
			require.False(t, unsupported)
			if c.otherError != "" {
				require.ErrorContains(t, err, c.otherError)
				return
			}
			require.Equal(t, indexName, e.File)
			require.Equal(t, c.field, e.Field)
			require.Contains(t, e.Got, c.got)
			require.Contains(t, e.Want, c.want)
			for _, part := range []string{c.field, c.got, c.want} {
				require.Contains(t, err.Error(), part)
			}
		})
	}
}

func TestShardMetadata(t *testing.T) {
	ix, err := parseIndex(indexName, []byte(`{"weight_map":{"a":"1","b":"2","c":"3"}}`))
	require.NoError(t, err)
	r, err := ix.join(fromMemory(map[string][]byte{
		"1": shardOf(t, map[string]string{"format": "pt", "part": "1", "first": "x"}, "a"),
		"2": shardOf(t, map[string]string{"format": "pt", "part": "2"}, "b"),
		"3": shardOf(t, map[string]string{"format": "pt", "part": "1"}, "c"),
	}))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"format": "pt", "first": "x"}, r.Metadata())
}

// fromMemory opens shards that are not files.
func fromMemory(shards map[string][]byte) func(string) (*Reader, error) {
	return func(name string) (*Reader, error) {
		data, ok := shards[name]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return New(name, bytes.NewReader(data), int64(len(data)))
	}
}

package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

var update = flag.Bool("update", false, "rewrite the files of testdata/attacks")

const attacksDir = "../../../testdata/attacks"

// archive is a header of the length that it has, and n bytes of data.
func archive(header string, n int) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), append([]byte(header), make([]byte, n)...)...)
}

func lone(fields string) []byte { return archive(`{"a":{`+fields+`}}`, 8) }

// attacks are files with one trick each; testdata/attacks/README.md explains them.
var attacks = []struct {
	name string
	file []byte
}{
	{"header-length-2-63", append(binary.LittleEndian.AppendUint64(nil, 1<<63), "{}"...)},
	{"header-length-1-gib", append(binary.LittleEndian.AppendUint64(nil, 1<<30), "{}"...)},
	{"header-longer-than-file", append(binary.LittleEndian.AppendUint64(nil, 100), "{}"...)},
	{"header-not-object", archive(`["a"]`, 8)},
	{"header-space-first", archive(` {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8)},
	{"header-nul-padding", archive("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}\x00\x00", 8)},
	{"header-deep", archive(`{"a":`+strings.Repeat("[", 5000)+strings.Repeat("]", 5000)+"}", 0)},
	{"duplicate-tensor", archive(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8)},
	{"duplicate-field", lone(`"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]`)},
	{"duplicate-escaped", archive(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\u0061":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8)},
	{"metadata-number", archive(`{"__metadata__":{"x":1},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8)},
	{"dtype-unknown", lone(`"dtype":"F31","shape":[2],"data_offsets":[0,8]`)},
	{"shape-overflow", lone(`"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]`)},
	{"shape-negative", lone(`"dtype":"F32","shape":[-2,-1],"data_offsets":[0,8]`)},
	{"shape-float", lone(`"dtype":"F32","shape":[2.0],"data_offsets":[0,8]`)},
	{"offsets-overlap", archive(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8)},
	{"offsets-hole", archive(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8)},
	{"offsets-reversed", lone(`"dtype":"F32","shape":[2],"data_offsets":[8,0]`)},
	{"offsets-past-end", lone(`"dtype":"F32","shape":[3],"data_offsets":[0,12]`)},
	{"bytes-after", archive(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 8)},
	{"name-nul", archive(`{"a\u0000b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8)},
	{"name-surrogate", archive(`{"\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8)},
	{"name-long", archive(`{"`+strings.Repeat("a", 5000)+`":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8)},
	{"git-lfs", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:0000000000000000000000000000000000000000000000000000000000000000\nsize 4000000000\n")},
}

// TestAttacks: every stored file is refused with an error that names its place,
// and is what the generator above writes.
func TestAttacks(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(attacksDir, "README.md"))
	require.NoError(t, err)
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			require.Contains(t, string(readme), fmt.Sprintf("| %s |", a.name))
			path := filepath.Join(attacksDir, "safetensors", a.name+".safetensors")
			if *update {
				require.NoError(t, os.WriteFile(path, a.file, 0o644))
			}
			stored, err := os.ReadFile(path)
			require.NoError(t, err)
			require.True(t, bytes.Equal(a.file, stored), "go test -run TestAttacks -update")
			allocated := testing.AllocsPerRun(1, func() { _, err = New(a.name, bytes.NewReader(stored), int64(len(stored))) })
			require.Less(t, allocated, 20000.0)
			_, malformed := errors.AsType[*tensor.FormatError](err)
			_, unsupported := errors.AsType[*tensor.UnsupportedError](err)
			require.True(t, malformed || unsupported, "%v", err)
			require.ErrorContains(t, err, a.name)
		})
	}
}

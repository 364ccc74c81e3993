package format

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the hex dump of the worked example into spec/trit-v1.md")

// exampleFile is the file of spec/trit-v1.md, 17.
func exampleFile(t testing.TB) []byte {
	trits := make([]int8, 2*130)
	trits[0], trits[32], trits[130+127], trits[130+129] = 1, -1, 1, -1
	return writeFile(t, filepath.Join(t.TempDir(), "example.trit"), []source{
		{spec: TensorSpec{"a.weight", Trit2, Verbatim, ScaleRow, []int{2, 130}, 0}, data: packTrit2(trits, 2, 130), scales: []float32{0.75, -1.5}},
		{spec: TensorSpec{"b.weight", F32, RuleNone, ScaleNone, []int{3}, 0}, data: []byte("\x00\x00\x80\x3f\x00\x00\x00\xc0\x00\x00\x00\x3f")},
	}, map[string][]byte{SectionConfig: []byte(`{"example":true}`)})
}

func hexDump(b []byte) string {
	var out strings.Builder
	prev, starred := "", false
	for at := 0; at < len(b); at += 16 {
		row := b[at:min(at+16, len(b))]
		line := fmt.Sprintf("% x", row)
		if line == prev && at+16 < len(b) {
			if !starred {
				out.WriteString("*\n")
			}
			starred = true
			continue
		}
		text := strings.Map(func(r rune) rune {
			if r < 0x20 || r > 0x7e {
				return '.'
			}
			return r
		}, latin(row))
		fmt.Fprintf(&out, "%04x  %-47s  |%s|\n", at, line, text)
		prev, starred = line, false
	}
	fmt.Fprintf(&out, "%04x\n", len(b))
	return out.String()
}

// latin makes a character of each byte.
func latin(b []byte) string {
	r := make([]rune, len(b))
	for i, v := range b {
		r[i] = rune(v)
	}
	return string(r)
}

// TestWorkedExample keeps the dump in the specification that of the writer.
func TestWorkedExample(t *testing.T) {
	const path, begin, end = "../spec/trit-v1.md", "```hex\n", "```\n"
	b := exampleFile(t)
	f, err := OpenBytes(b)
	require.NoError(t, err)
	requireClean(t, f)
	// The places that the text names.
	require.Equal(t, []byte{0x0d}, b[0x400:0x401])
	require.Equal(t, []byte{0x40}, b[0x43f:0x440])
	require.Equal(t, []byte{0x03}, b[0x4a1:0x4a2])
	require.Equal(t, int64(0x500), f.Header().Tensors[0].ScaleOffset)
	require.Equal(t, int64(0x600), f.Header().Tensors[1].Offset)
	require.Equal(t, int64(0x700), f.Header().Sections[0].Offset)
	require.Len(t, b, 0x710)

	text, err := os.ReadFile(path)
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok)
	have, tail, ok := strings.Cut(rest, end)
	require.True(t, ok)
	want := hexDump(b)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(head+begin+want+end+tail), 0o666))
		return
	}
	require.Equal(t, want, have, "run go test ./format -run WorkedExample -update")
}

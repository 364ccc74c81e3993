package codebook_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/codebook"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
)

// checkFiles verifies each .trit file named on its command line, or the section in
// a file named after its kind, and prints the class of its failure, or "ok".
const checkFiles = `
import os, sys
sys.path.insert(0, "../spec")
import tritread
for path in sys.argv[1:]:
    try:
        with open(path, "rb") as stream:
            if path.endswith(".trit"):
                tritread.File(stream).check()
            else:
                tritread.check_codebook(stream.read(), {"name": os.path.basename(path), "offset": 0})
        print("ok")
    except tritread.Refused as e:
        print(str(e).split(":")[0])
`

// The independent reader takes and refuses the sections that this package takes
// and refuses.
func TestPython(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		if strings.Contains(os.Getenv("TRITTER_REQUIRE"), "python3") {
			require.NoError(t, err)
		}
		t.Skip("python3 is not installed: spec/tritread.py is not compared")
	}
	var want []string
	args := []string{"-B", "-c", checkFiles}
	add := func(kind codebook.Kind, data []byte) {
		path := filepath.Join(t.TempDir(), kind.SectionName())
		require.NoError(t, os.WriteFile(path, data, 0o666))
		args = append(args, path)
		class := "ok"
		if _, err := codebook.Parse(kind, data); err != nil {
			class = string(format.ClassOf(err))
		}
		want = append(want, class)
	}
	for i, h := range []codebook.Header{imageHeader, hiddenCodes} { // as sections of a file
		data, err := book(t, h).Section()
		require.NoError(t, err)
		data[len(data)-1] |= byte(0x7f * i) // the second one is wrong
		data[len(data)-2] |= byte(0x80 * i)
		c := (&synth.Shape{Class: "LlamaForCausalLM", Hidden: 8, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 8, Intermediate: 8, Vocab: 9000, Context: 8, Tied: true}).Config()
		path := filepath.Join(t.TempDir(), "m.trit")
		require.NoError(t, synth.WriteModel(path, c, format.Int8, synth.Section{Name: h.Kind.SectionName(), Data: data}))
		args, want = append(args, path), append(want, []string{"ok", "config"}[i])
	}
	for _, h := range []codebook.Header{imageHeader, greyHeader, soundHeader, stereo, hiddenCodes} {
		data, err := book(t, h).Section()
		require.NoError(t, err)
		add(h.Kind, data)
		start := len(data) - len(book(t, h).Rows().Data)
		for _, change := range []func(b []byte) []byte{
			func(b []byte) []byte { return b[:5] },
			func(b []byte) []byte { return b[:len(b)-1] },
			func(b []byte) []byte { return append(b, 0) },
			func(b []byte) []byte { b[start-1] = 1; return b },
			func(b []byte) []byte { binary.LittleEndian.PutUint64(b, 1<<63); return b },
			func(b []byte) []byte { return bytes.Replace(b, []byte(`"codes"`), []byte(`"coces"`), 1) },
			func(b []byte) []byte { return bytes.Replace(b, []byte(`"dtype":"f`), []byte(`"dtype":"g`), 1) },
			func(b []byte) []byte { return bytes.Replace(b, []byte(`"dim":`), []byte(`"dim":0`), 1) },
			func(b []byte) []byte { return bytes.Replace(b, []byte(`"channels":`), []byte(`"channels":9`), 1) },
			func(b []byte) []byte { return bytes.Replace(b, []byte(`"range":"unit"`), []byte(`"range":"uni1"`), 1) },
			func(b []byte) []byte { return bytes.Replace(b, []byte(`{"c`), []byte(`["c`), 1) },
			func(b []byte) []byte { b[len(b)-1], b[len(b)-2] = 0x7f, 0x80; return b }, // infinite
			func(b []byte) []byte { b[len(b)-1] ^= 0x80; return b },                   // the sign of a number
		} {
			add(h.Kind, change(bytes.Clone(data)))
		}
	}
	out, err := exec.Command("python3", args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, want, strings.Fields(string(out)))
	require.Contains(t, want, "config")
}

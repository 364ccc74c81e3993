package format

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const tritread = "../spec/tritread.py"

// python runs a command of python3 and returns its exit status and outputs.
func python(t *testing.T, args ...string) (int, string, string) {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		if strings.Contains(os.Getenv("TRITTER_REQUIRE"), "python3") {
			require.NoError(t, err)
		}
		t.Skip("python3 is not installed: spec/tritread.py is not compared")
	}
	cmd := exec.Command(path, append([]string{"-B"}, args...)...)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), words.String()
}

// halfToFloat widens a binary16 by its definition.
func halfToFloat(h uint16) float64 {
	sign, e, m := 1.0, int(h>>10&31), float64(h&1023)
	if h>>15 != 0 {
		sign = -1
	}
	if e == 0 {
		return sign * math.Ldexp(m, -24)
	}
	return sign * math.Ldexp(1024+m, e-25)
}

// values are what a source's encoded data stands for.
func (s *source) values() []float64 {
	var list []float64
	if s.trits != nil {
		for _, v := range s.trits {
			list = append(list, float64(v))
		}
		return list
	}
	for b := s.data; len(b) > 0; {
		switch s.spec.Encoding {
		case F32:
			list = append(list, float64(math.Float32frombits(binary.LittleEndian.Uint32(b))))
			b = b[4:]
		case F16:
			list = append(list, halfToFloat(binary.LittleEndian.Uint16(b)))
			b = b[2:]
		case BF16:
			list = append(list, float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b))<<16)))
			b = b[2:]
		}
	}
	return list
}

// allTensors decodes each tensor of a file, one a line.
const allTensors = `
import json, sys
sys.path.insert(0, "../spec")
import tritread
with open(sys.argv[1], "rb") as stream:
    file = tritread.File(stream)
    for name in file.tensors:
        print(json.dumps(file.decode(name)))
`

// TestPythonDecodes compares every tensor and the listing of the independent
// reader with what Go wrote.
func TestPythonDecodes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "every.trit")
	sources := everySource(t)
	writeFile(t, path, sources, testSections())
	f, err := Open(path)
	require.NoError(t, err)
	defer f.Close()
	code, out, words := python(t, "-c", allTensors, path)
	require.Zero(t, code, words)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, len(sources))
	code, out, words = python(t, tritread, "--check", "--tensor", sources[tTrit3Group].spec.Name, path)
	require.Zero(t, code, words)
	require.Equal(t, lines[tTrit3Group]+"\n", out)
	for i, s := range sources {
		var got struct {
			Encoding, Rule, Granularity string
			Dims                        []int
			Group                       int
			Values                      json.RawMessage
			Scales                      []float32
		}
		require.NoError(t, json.Unmarshal([]byte(lines[i]), &got))
		info := f.Header().Tensors[i]
		require.Equal(t, []string{info.Encoding.String(), info.Rule.String(), info.Granularity.String()}, []string{got.Encoding, got.Rule, got.Granularity})
		require.Equal(t, info.Dims, got.Dims)
		require.Equal(t, info.Group, got.Group)
		require.Equal(t, s.scales, append([]float32(nil), got.Scales...))
		rows := [][]float64{nil}
		if len(info.Dims) == 2 {
			require.NoError(t, json.Unmarshal(got.Values, &rows))
			require.Len(t, rows, info.Dims[0])
		} else {
			require.NoError(t, json.Unmarshal(got.Values, &rows[0]))
		}
		require.Equal(t, s.values(), slices.Concat(rows...), s.spec.Name)
	}

	code, out, words = python(t, tritread, "--json", "--check", path)
	require.Zero(t, code, words)
	var list struct {
		SHA256   string
		Tensors  []struct{ Name, SHA256 string }
		Sections []struct {
			Name           string
			Offset, Length int64
		}
	}
	require.NoError(t, json.Unmarshal([]byte(out), &list))
	require.Equal(t, hexHash(f.Header().SHA256), list.SHA256)
	require.Len(t, list.Tensors, len(sources))
	for i, x := range list.Tensors {
		require.Equal(t, []string{f.Header().Tensors[i].Name, hexHash(f.Header().Tensors[i].SHA256)}, []string{x.Name, x.SHA256})
	}
	for i, x := range list.Sections {
		s := f.Header().Sections[i]
		require.Equal(t, []any{s.Name, s.Offset, s.Length}, []any{x.Name, x.Offset, x.Length})
	}

	code, out, words = python(t, tritread, path)
	require.Zero(t, code, words)
	require.Contains(t, out, "layers.0.down.weight")
	code, _, words = python(t, tritread, "--tensor", "nothing", path)
	require.Equal(t, 1, code)
	require.Contains(t, words, "no tensor 'nothing'")
	code, _, _ = python(t, tritread, path+".missing")
	require.Equal(t, 1, code)
	code, _, _ = python(t, tritread)
	require.Equal(t, 2, code)
	require.NoError(t, os.Truncate(path, 5000))
	code, _, words = python(t, tritread, path)
	require.Equal(t, 3, code)
	require.Contains(t, words, "bounds: offset 16: file length")
}

// manyFiles reads each file named on its command line in one process and
// prints the class of its failure, or "ok".
const manyFiles = `
import sys
sys.path.insert(0, "../spec")
import tritread
for path in sys.argv[1:]:
    try:
        with open(path, "rb") as stream:
            tritread.File(stream).check()
        print("ok")
    except tritread.Refused as e:
        print(str(e).split(":")[0])
`

// TestPythonRefuses gives every malformed file of the tables to the independent
// reader, which must name the same class.
func TestPythonRefuses(t *testing.T) {
	good := everyFile(t)
	f, err := OpenBytes(good)
	require.NoError(t, err)
	h := f.Header()
	dir := t.TempDir()
	args := []string{"-c", manyFiles}
	var names, want []string
	add := func(name, class string, b []byte) {
		path := filepath.Join(dir, fmt.Sprint(len(names)))
		require.NoError(t, os.WriteFile(path, b, 0o666))
		args, names, want = append(args, path), append(names, name), append(want, class)
	}
	add("good", "ok", good)
	for _, c := range headerCases(h) {
		b := slices.Clone(good)
		c.patch(b)
		add(c.name, string(c.class), rehash(b))
	}
	for _, c := range payloadCases(h) {
		b := slices.Clone(good)
		c.patch(b)
		add(c.name, string(c.class), payloadHash(t, b))
	}
	for n := 0; n < len(good); n += 997 {
		class := ClassBounds
		if n < len(Magic) {
			class = ClassNotTrit
		}
		add(fmt.Sprint("cut at ", n), string(class), good[:n])
		b := slices.Clone(good)
		b[n] ^= 0x10
		_, err := OpenBytes(b)
		if err == nil {
			f, _ := OpenBytes(b)
			err = problems(t, f)[0]
			// A reader may name any rule that a damaged byte breaks, and the
			// Python one verifies hashes before values.
			if ClassOf(err) != ClassBounds {
				err = &FormatError{Class: ClassChecksum}
			}
		}
		add(fmt.Sprint("flip at ", n), string(ClassOf(err)), b)
	}
	numbers := []float64{0, 1, -1, 0.1, 1e-6, 9.99e-7, 1e-7, 1e20, 1e21, 1.5e300, 5e-324, 123456.789, 1 << 53, 0.00001, -0.00012345, 1e16, 1e17, 1234567890123456789}
	for _, v := range numbers {
		content, err := EncodeJSON(map[string]any{"n": v, "text": "é\u2028\x7f\x01\n\"\\/", "\U0001f600": 1, "\ufb33": nil})
		require.NoError(t, err)
		sections := map[string][]byte{SectionConfig: content}
		add(fmt.Sprint("number ", v), "ok", writeFile(t, filepath.Join(dir, "n.trit"), everySource(t)[:1], sections))
	}
	code, out, words := python(t, args...)
	require.Zero(t, code, words)
	got := strings.Fields(out)
	require.Len(t, got, len(names))
	for i, name := range names {
		require.Equal(t, want[i], got[i], name)
	}
}

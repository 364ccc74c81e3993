package cuda

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestManifest: the PTX was made from the sources beside it, and nobody changed it by hand.
func TestManifest(t *testing.T) {
	data, err := os.ReadFile("ptx/manifest")
	require.NoError(t, err)
	listed := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n")[1:] {
		sum, path, ok := strings.Cut(line, "  ")
		require.True(t, ok, line)
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		got := sha256.Sum256(content)
		require.Equal(t, sum, hex.EncodeToString(got[:]), "%s is not what ptx was made of: run kernels/cuda/generate.sh", path)
		listed[path] = true
	}
	for _, pattern := range []string{"src/*", "ptx/*.ptx"} {
		paths, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, path := range paths {
			require.True(t, listed[path], "%s is not in the manifest: run kernels/cuda/generate.sh", path)
		}
	}
}

var (
	entryPattern = regexp.MustCompile(`(?s)\.visible \.entry (\w+)\((.*?)\)`)
	paramPattern = regexp.MustCompile(`\.param \.(\w+)`)
	// What rounds twice, flushes subnormals, approximates, or may be fused by the driver's compiler.
	loosePattern = regexp.MustCompile(`\b(add|sub|mul|fma|mad|div|rcp|sqrt|rsqrt|ex2|lg2|sin|cos)\.(f32|ftz|approx|full|rn\.ftz|sat)[^\s]*`)
)

// TestPTX holds the entry points and their parameters to the launch table, and the arithmetic to exact instructions.
func TestPTX(t *testing.T) {
	types := map[string]string{"p": "u64", "U": "u64", "u": "u32", "f": "f32"}
	files, err := fs.Glob(ptx, "ptx/*.ptx")
	require.NoError(t, err)
	params := map[string]map[string]string{} // file to entry to types
	for _, file := range files {
		data, err := ptx.ReadFile(file)
		require.NoError(t, err)
		text := string(data)
		require.Empty(t, loosePattern.FindString(text), file)
		require.NotContains(t, text, ".local", "%s: registers spilled by the front end", file)
		target, version := ".target sm_80", ".version 7.4"
		if strings.Contains(file, ".sm_90.") {
			target, version = ".target sm_90", ".version 7.8"
		}
		require.Contains(t, text, target+"\n", file)
		require.Contains(t, text, version+"\n", file)
		entries := map[string]string{}
		for _, e := range entryPattern.FindAllStringSubmatch(text, -1) {
			var list []string
			for _, p := range paramPattern.FindAllStringSubmatch(e[2], -1) {
				list = append(list, strings.Replace(p[1], "b", "u", 1))
			}
			entries[e[1]] = strings.Join(list, " ")
		}
		params[file] = entries
	}
	for k := range numKernels {
		var want []string
		for _, p := range strings.Split(table[k].params, "") {
			want = append(want, types[p])
		}
		for _, file := range []string{"ptx/" + table[k].file + ".ptx", "ptx/" + table[k].file + ".sm_90.ptx"} {
			if entries, ok := params[file]; ok {
				require.Equal(t, strings.Join(want, " "), entries[table[k].name], "%s in %s", table[k].name, file)
				delete(entries, table[k].name)
			}
		}
	}
	for file, entries := range params {
		require.Empty(t, entries, "kernels of %s that nothing launches", file)
	}
}

package ptx

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

const unitText = head + ".visible .entry k(.param .u64 p)\n{\nret;\n}\n"

func hash(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }

// tree is a small kernels/cuda with a manifest that fits.
func tree() (*Manifest, fstest.MapFS) {
	return &Manifest{
			NVCC: "release 13.0, V13.0.48", Flags: []string{"-ptx", "-fmad=false"},
			Sources: map[string]string{"k.cu": hash("kernel"), "units.txt": hash("units")},
			Units:   []Unit{{File: "base.ptx", Arch: "compute_80", Version: "7.8", Sources: []string{"k.cu"}, SHA256: hash(unitText)}},
		}, fstest.MapFS{
			"src/k.cu": {Data: []byte("kernel")}, "src/units.txt": {Data: []byte("units")}, "src/notes.md": {},
			"ptx/base.ptx": {Data: []byte(unitText)}, "ptx/ptx.go": {},
		}
}

func TestManifestCheck(t *testing.T) {
	m, files := tree()
	require.NoError(t, m.Check(files))
	for name, c := range map[string]struct {
		damage func(m *Manifest, files fstest.MapFS)
		want   string
	}{
		"source changed": {func(m *Manifest, f fstest.MapFS) { f["src/k.cu"] = &fstest.MapFile{Data: []byte("other")} },
			"src/k.cu has SHA-256 " + hash("other") + ", and in the manifest " + hash("kernel") + ": run src/generate.sh where nvcc is"},
		"source gone":    {func(m *Manifest, f fstest.MapFS) { delete(f, "src/units.txt") }, "src/units.txt: file does not exist"},
		"source added":   {func(m *Manifest, f fstest.MapFS) { f["src/new.cuh"] = &fstest.MapFile{} }, "src/new.cuh is not in the manifest"},
		"PTX edited":     {func(m *Manifest, f fstest.MapFS) { f["ptx/base.ptx"].Data = []byte(unitText + "//") }, "ptx/base.ptx has SHA-256"},
		"PTX gone":       {func(m *Manifest, f fstest.MapFS) { delete(f, "ptx/base.ptx") }, "ptx/base.ptx: file does not exist"},
		"PTX added":      {func(m *Manifest, f fstest.MapFS) { f["ptx/old.ptx"] = &fstest.MapFile{} }, "ptx/old.ptx is not in the manifest"},
		"target":         {func(m *Manifest, f fstest.MapFS) { m.Units[0].Arch = "compute_90" }, "ptx/base.ptx: .target sm_80, .version 7.8, .address_size 64, want sm_90, 7.8, 64"},
		"version":        {func(m *Manifest, f fstest.MapFS) { m.Units[0].Version = "7.4" }, "want sm_80, 7.4, 64"},
		"no sources":     {func(m *Manifest, f fstest.MapFS) { m.Units[0].Sources = nil }, "no sources, want at least one"},
		"unknown source": {func(m *Manifest, f fstest.MapFS) { m.Units[0].Sources = []string{"x.cu"} }, "source x.cu has no hash in the manifest"},
		"fused":          {func(m *Manifest, f fstest.MapFS) { m.Flags = []string{"-ptx"} }, "flags [-ptx], want -fmad=false among them"},
		"fast":           {func(m *Manifest, f fstest.MapFS) { m.Flags = append(m.Flags, "-use_fast_math") }, "flag -use_fast_math changes results"},
		"no compiler":    {func(m *Manifest, f fstest.MapFS) { m.NVCC = "" }, "no version of nvcc"},
		"not PTX": {func(m *Manifest, f fstest.MapFS) {
			f["ptx/base.ptx"] = &fstest.MapFile{Data: []byte("/*")}
			m.Units[0].SHA256 = hash("/*")
		}, "ptx/base.ptx: PTX line 1: a comment without an end"},
	} {
		m, files := tree()
		c.damage(m, files)
		require.ErrorContains(t, m.Check(files), c.want, name)
	}
}

func TestReadManifestRefuses(t *testing.T) {
	_, err := ReadManifest(fstest.MapFS{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = ReadManifest(fstest.MapFS{"ptx/manifest.json": {Data: []byte("{")}})
	require.ErrorContains(t, err, "ptx/manifest.json: unexpected end of JSON input; run src/generate.sh again")
}

// fakeNVCC stands for the compiler: it writes PTX of the version of nvcc 13, with an
// entry for each source that its unit includes.
const fakeNVCC = `#!/usr/bin/env bash
set -euo pipefail
if [ "$1" = --version ]; then
	printf 'nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 13.0, V13.0.48\n'
	exit
fi
while [ $# -gt 1 ]; do
	case $1 in
	-arch=*) arch=${1#-arch=compute_} ;;
	-o) out=$2; shift ;;
	esac
	shift
done
{
	printf '// built today in %s\n.version 9.0\n.target sm_%s\n.address_size 64\n' "$PWD" "$arch"
	sed -n 's/^#include "\(.*\)\.cu"$/.visible .entry \1(.param .u64 p)\n{\nret;\n}/p' "$1"
} >"$out"
`

// TestGenerate runs the script with a stand-in for nvcc, twice: what it writes
// passes the check, and is the same each time.
func TestGenerate(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil || runtime.GOOS == "windows" {
		t.Skip("needs bash")
	}
	dir := t.TempDir()
	script, err := os.ReadFile("../src/generate.sh")
	require.NoError(t, err)
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
	}
	write("nvcc", fakeNVCC)
	write("src/generate.sh", string(script))
	write("src/units.txt", "# comment\n\nbase compute_80 7.8 a.cu b.cu\nsm90a compute_90a 8.0 c.cu\n")
	for _, name := range []string{"a.cu", "b.cu", "c.cu", "d.cuh"} {
		write("src/"+name, "// "+name)
	}
	write("ptx/stale.ptx", "old")
	var first []byte
	for range 2 {
		cmd := exec.Command("bash", filepath.Join(dir, "src/generate.sh"))
		cmd.Env = append(os.Environ(), "NVCC="+filepath.Join(dir, "nvcc"))
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		m, err := ReadManifest(os.DirFS(dir))
		require.NoError(t, err)
		require.NoError(t, m.Check(os.DirFS(dir)))
		data, err := os.ReadFile(filepath.Join(dir, "ptx/manifest.json"))
		require.NoError(t, err)
		if first == nil {
			first = data
		}
		require.Equal(t, string(first), string(data))
		require.Equal(t, "release 13.0, V13.0.48", m.NVCC)
		require.Equal(t, []string{"-ptx", "-fmad=false", "-O3", "--std=c++17"}, m.Flags)
		require.Len(t, m.Sources, 6)
		require.Len(t, m.Units, 2)
		require.Equal(t, []string{"a.cu", "b.cu"}, m.Units[0].Sources)
	}
	text, err := os.ReadFile(filepath.Join(dir, "ptx/base.ptx"))
	require.NoError(t, err)
	require.Regexp(t, `^// Code generated by kernels/cuda/src/generate.sh from a.cu b.cu; DO NOT EDIT.\n\.version 7\.8\n`, string(text))
	f, err := Parse(string(text))
	require.NoError(t, err)
	require.NoError(t, f.Check(Table{"a": {Ptr}, "b": {Ptr}}))
}

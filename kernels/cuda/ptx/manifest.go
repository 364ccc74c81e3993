package ptx

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// Manifest says what checked-in PTX was compiled from. kernels/cuda/src/generate.sh
// writes it.
type Manifest struct {
	NVCC    string            `json:"nvcc"`    // "release 13.0, V13.0.48"
	Flags   []string          `json:"flags"`   // of every unit, without -arch
	Sources map[string]string `json:"sources"` // SHA-256 of each file of src, by name
	Units   []Unit            `json:"units"`
}

// Unit is one PTX file.
type Unit struct {
	File    string   `json:"file"`    // name in ptx: "base.ptx"
	Arch    string   `json:"arch"`    // -arch: "compute_80"
	Version string   `json:"version"` // .version of the text
	Sources []string `json:"sources"` // files of src that make it, in order
	SHA256  string   `json:"sha256"`
}

// manifestFile is the place of the manifest beneath kernels/cuda.
const manifestFile = "ptx/manifest.json"

// requiredFlags keep the compiler from changing results: it must not fuse a
// product into a sum. Flags that would let it are refused by Check.
var (
	requiredFlags = []string{"-fmad=false"}
	refusedFlags  = []string{"-use_fast_math", "--use_fast_math", "-ftz=true", "-prec-div=false", "-prec-sqrt=false", "-fmad=true"}
)

// ReadManifest reads ptx/manifest.json of a tree that is laid out as kernels/cuda.
func ReadManifest(tree fs.FS) (*Manifest, error) {
	data, err := fs.ReadFile(tree, manifestFile)
	if err != nil {
		return nil, err
	}
	m := new(Manifest)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("%s: %w; run src/generate.sh again", manifestFile, err)
	}
	return m, nil
}

// Check holds a tree, laid out as kernels/cuda, to the manifest: every source and
// every PTX file is there with its hash and none beside them, the PTX has the
// target and the version that the manifest says, and the flags keep the numerics.
// The error lists every difference.
func (m *Manifest) Check(tree fs.FS) error {
	var errs []error
	complain := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, flag := range requiredFlags {
		if !slices.Contains(m.Flags, flag) {
			complain("flags %v, want %s among them", m.Flags, flag)
		}
	}
	for _, flag := range m.Flags {
		if slices.Contains(refusedFlags, flag) {
			complain("flag %s changes results; want the PTX without it", flag)
		}
	}
	if m.NVCC == "" {
		complain("no version of nvcc, want one")
	}
	for _, name := range slices.Sorted(maps.Keys(m.Sources)) {
		if err := sameHash(tree, "src/"+name, m.Sources[name]); err != nil {
			complain("%w: run src/generate.sh where nvcc is", err)
		}
	}
	outputs := map[string]string{}
	for _, u := range m.Units {
		outputs[u.File] = u.SHA256
		errs = append(errs, m.checkUnit(tree, &u))
	}
	errs = append(errs, nothingElse(tree, "src", m.Sources, ".cu", ".cuh", ".sh", ".txt"), nothingElse(tree, "ptx", outputs, ".ptx"))
	return errors.Join(errs...)
}

// checkUnit holds one PTX file to its row.
func (m *Manifest) checkUnit(tree fs.FS, u *Unit) error {
	name := "ptx/" + u.File
	if err := sameHash(tree, name, u.SHA256); err != nil {
		return fmt.Errorf("%w: it was edited or is out of date; run src/generate.sh where nvcc is", err)
	}
	text, err := fs.ReadFile(tree, name)
	if err != nil {
		return err
	}
	f, err := Parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if want := strings.Replace(u.Arch, "compute_", "sm_", 1); f.Target != want || f.Version != u.Version || f.AddressSize != 64 {
		return fmt.Errorf("%s: .target %s, .version %s, .address_size %d, want %s, %s, 64", name, f.Target, f.Version, f.AddressSize, want, u.Version)
	}
	if len(u.Sources) == 0 {
		return fmt.Errorf("%s: no sources, want at least one", name)
	}
	for _, s := range u.Sources {
		if _, ok := m.Sources[s]; !ok {
			return fmt.Errorf("%s: source %s has no hash in the manifest; run src/generate.sh again", name, s)
		}
	}
	return nil
}

// sameHash holds a file to its SHA-256.
func sameHash(tree fs.FS, name, want string) error {
	data, err := fs.ReadFile(tree, name)
	if err != nil {
		return err
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(data)); got != want {
		return fmt.Errorf("%s has SHA-256 %s, and in the manifest %s", name, got, want)
	}
	return nil
}

// nothingElse complains of files with one of these extensions that are not listed.
func nothingElse(tree fs.FS, dir string, listed map[string]string, extensions ...string) error {
	entries, err := fs.ReadDir(tree, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, ok := listed[e.Name()]; !ok && slices.Contains(extensions, path.Ext(e.Name())) {
			return fmt.Errorf("%s/%s is not in the manifest: run src/generate.sh where nvcc is, or remove it", dir, e.Name())
		}
	}
	return nil
}

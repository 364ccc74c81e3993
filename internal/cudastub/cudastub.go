// Package cudastub builds a stand-in for NVIDIA's driver library, for tests on
// machines without a GPU. testdata/libcuda.c says what it does and how it is told
// to fail.
package cudastub

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

//go:embed testdata/libcuda.c
var source []byte

// Env names the environment variable that configures the library in a program
// that a test starts.
const Env = "STUB_CUDA"

// ErrNoCompiler says that there is no cc, gcc or clang.
var ErrNoCompiler = errors.New("no C compiler (cc, gcc or clang) to build the CUDA stub with")

// Compile compiles the library into a folder and returns its path. Defines are
// macros: WITHOUT_LAUNCH_EX and WITHOUT_PRIMARY_RELEASE leave a function out, as an
// older driver does. Each path is a library with a state of its own.
func Compile(dir string, defines ...string) (string, error) {
	compiler := ""
	for _, name := range []string{"cc", "gcc", "clang"} {
		if path, err := exec.LookPath(name); err == nil {
			compiler = path
			break
		}
	}
	if compiler == "" {
		return "", ErrNoCompiler
	}
	c, library := filepath.Join(dir, "libcuda.c"), filepath.Join(dir, "libcuda.so.1")
	if err := os.WriteFile(c, source, 0o600); err != nil {
		return "", err
	}
	args := []string{"-shared", "-fPIC", "-o", library, c, "-lpthread"}
	for _, d := range defines {
		args = append(args, "-D"+d)
	}
	if out, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", compiler, err, out)
	}
	return library, nil
}

// Build compiles the library for one test. Without a C compiler the test is
// skipped, or fails where TRITTER_REQUIRE names cc.
func Build(t testing.TB, defines ...string) string {
	t.Helper()
	library, err := Compile(t.TempDir(), defines...)
	if errors.Is(err, ErrNoCompiler) && !slices.Contains(strings.Split(os.Getenv("TRITTER_REQUIRE"), ","), "cc") {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return library
}

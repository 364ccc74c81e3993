// Package cudastub builds a stand-in for NVIDIA's driver library, for tests on
// machines without a GPU. testdata/libcuda.c says what it does and how it is told
// to fail.
package cudastub

import (
	_ "embed"
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

// Build compiles the library into a temporary folder of the test and returns its
// path. Defines are macros: WITHOUT_LAUNCH_EX and WITHOUT_PRIMARY_RELEASE leave a
// function out, as an older driver does. Each build has a state of its own. Without
// a C compiler the test is skipped, or fails where TRITTER_REQUIRE names cc.
func Build(t testing.TB, defines ...string) string {
	t.Helper()
	compiler := ""
	for _, name := range []string{"cc", "gcc", "clang"} {
		if path, err := exec.LookPath(name); err == nil {
			compiler = path
			break
		}
	}
	if compiler == "" {
		if slices.Contains(strings.Split(os.Getenv("TRITTER_REQUIRE"), ","), "cc") {
			t.Fatal("TRITTER_REQUIRE names cc, and there is no C compiler: cc, gcc or clang")
		}
		t.Skip("no C compiler (cc, gcc or clang) to build the CUDA stub with")
	}
	dir := t.TempDir()
	c, library := filepath.Join(dir, "libcuda.c"), filepath.Join(dir, "libcuda.so.1")
	if err := os.WriteFile(c, source, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-shared", "-fPIC", "-o", library, c, "-lpthread"}
	for _, d := range defines {
		args = append(args, "-D"+d)
	}
	if out, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", compiler, err, out)
	}
	return library
}

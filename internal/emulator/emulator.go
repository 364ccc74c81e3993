// Package emulator builds the library of kernels/cuda/emulator, with which tests run the CUDA kernels on the processor.
package emulator

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/cpu"

	"github.com/tritter-ai/tritter/kernels/cuda/driver"
)

// MemoryEnv names the environment variable that says how many bytes of memory the emulated device has.
const MemoryEnv = "TRITTER_EMULATOR_MEMORY"

// WrongEnv names the environment variable that, not empty, makes the emulated device round towards zero.
const WrongEnv = "TRITTER_EMULATOR_TRUNCATES"

// Run runs test once with the GPU of this machine, as the subtest "cuda", and once with the emulator, as "emulator".
// What is missing is skipped by name, unless TRITTER_REQUIRE lists it.
func Run(t *testing.T, test func(t *testing.T)) {
	t.Run("cuda", func(t *testing.T) {
		lib, err := driver.Load("")
		if err == nil {
			_, err = lib.Devices()
		}
		if err != nil {
			missing(t, "cuda", err)
		}
		test(t)
	})
	t.Run("emulator", func(t *testing.T) {
		Use(t)
		test(t)
	})
}

// Use makes package driver load the emulator until the test ends.
func Use(t *testing.T) {
	if _, err := driver.Load(""); errors.Is(err, driver.ErrUnavailable) {
		missing(t, "emulator", err)
	}
	path, err := build()
	if errors.Is(err, errors.ErrUnsupported) {
		missing(t, "emulator", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(driver.LibraryEnv, path)
}

func missing(t *testing.T, name string, why error) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("TRITTER_REQUIRE"), ","), name) {
		t.Fatalf("no %s, which TRITTER_REQUIRE asks for: %v", name, why)
	}
	t.Skipf("no %s: %v", name, why)
}

// build compiles the library, unless one of the same sources is there from before, and returns its path. The error is
// of the kind errors.ErrUnsupported on a machine that cannot.
func build() (string, error) {
	if goruntime.GOOS != "linux" || goruntime.GOARCH != "amd64" || !cpu.X86.HasFMA {
		return "", fmt.Errorf("%w: the emulator is for linux on amd64 with FMA", errors.ErrUnsupported)
	}
	_, self, _, _ := goruntime.Caller(0)
	root := filepath.Join(filepath.Dir(self), "../../kernels/cuda")
	compiler, err := exec.LookPath("c++")
	if err != nil {
		return "", fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	sources, err := filepath.Glob(filepath.Join(root, "src/*.cu*"))
	if err != nil {
		return "", err
	}
	main := filepath.Join(root, "emulator/libcuda.cc")
	sum := sha256.New()
	for _, path := range append(sources, main, filepath.Join(root, "emulator/words.h")) {
		data, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		sum.Write(data)
	}
	path := filepath.Join(os.TempDir(), "tritter-emulator-"+hex.EncodeToString(sum.Sum(nil))[:16]+".so")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "tritter-emulator-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	made := filepath.Join(dir, "libcuda.so")
	out, err := exec.Command(compiler, "-std=c++17", "-O2", "-mfma", "-ffp-contract=off", "-shared", "-fPIC", "-DTRITTER_EMULATOR", "-o", made, main).CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return path, os.Rename(made, path)
}

// Package cmd tests the commands as a user meets them: testdata/script holds
// sessions, run against the built programs.
package cmd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tritter-ai/tritter/codebook"
	"github.com/tritter-ai/tritter/internal/cudastub"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/kernels/cuda/driver"
)

var programs string // folder of the built commands

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if programs, err = os.MkdirTemp("", "tritter-cmd-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(programs)
		if out, err := exec.Command("go", "build", "-o", programs+string(os.PathSeparator), "./...").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

func TestSessions(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	stub := cudaStub(t)
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", programs+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("FIXTURES", filepath.Join(root, "testdata", "fixtures"))
			e.Setenv("DEMO", filepath.Join(root, "testdata", "demo"))
			e.Setenv("TRITTER_DEVICE", "cpu") // the same on every machine; devices.txtar asks for others
			e.Setenv("STUB", stub)
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name != "stub" {
				return false, fmt.Errorf("condition %q, want stub", name)
			}
			return stub != "", nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "damage": damage, "truncate": truncate, "codebook": writeCodebook,
		},
	})
}

// cudaStub returns the stand-in for the CUDA library, or "" where there is no C
// compiler or the commands are built without CUDA.
func cudaStub(t *testing.T) string {
	if _, err := driver.Load("none"); errors.Is(err, driver.ErrUnavailable) {
		return ""
	}
	path, err := cudastub.Compile(t.TempDir())
	if errors.Is(err, cudastub.ErrNoCompiler) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// exits runs a program and holds it to an exit code: exits CODE PROGRAM [ARG ...].
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG ...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if e, ok := err.(*exec.ExitError); ok {
		code = e.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// damage flips the bits of one byte: damage FILE OFFSET.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	path, at := ts.MkAbs(args[0]), 0
	_, err := fmt.Sscan(args[1], &at)
	ts.Check(err)
	data, err := os.ReadFile(path)
	ts.Check(err)
	data[at] ^= 0xff
	ts.Check(os.WriteFile(path, data, 0o644))
}

// truncate cuts a file: truncate FILE SIZE.
func truncate(ts *testscript.TestScript, neg bool, args []string) {
	var size int64
	_, err := fmt.Sscan(args[1], &size)
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), size))
}

// writeCodebook writes a small codebook of random vectors: codebook KIND FILE.
func writeCodebook(ts *testscript.TestScript, neg bool, args []string) {
	h := map[string]codebook.Header{
		"image":     {Kind: codebook.Image, PatchSize: 2, Codes: 16, Dim: 12},
		"audio":     {Kind: codebook.Audio, FrameLength: 80, SampleRate: 8000, Codes: 16, Dim: 80},
		"embedding": {Kind: codebook.Embedding, Codes: 16, Dim: 128},
	}[args[0]]
	ts.Check(synth.WriteCodebook(ts.MkAbs(args[1]), h))
}

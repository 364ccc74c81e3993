//go:build unix

// Crash interrupts conversions in every way that it knows and looks at what is
// left: under the final name stands the old file, or the new one, whole.
//
//	go run ./internal/crash -n 200
//
// It kills tritter-convert with SIGKILL and with SIGTERM at random moments, limits
// the size of its files, fills its disk (on Linux as root, on a tmpfs of its own),
// and takes the source away from it.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/verify"
)

func main() {
	n := flag.Int("n", 200, "conversions that are killed; the other ways get a quarter of it each")
	seed := flag.Uint64("seed", 1, "seed of the moments and sizes")
	flag.Parse()
	wrong, err := run(os.Stdout, *n, *seed)
	if err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(1)
	}
	if wrong > 0 {
		fmt.Fprintf(os.Stderr, "crash: %d conversions went wrong\n", wrong)
		os.Exit(3)
	}
}

// trial is a folder with a checkpoint, its conversion, and another file that the
// conversion is to replace.
type trial struct {
	r        *rand.Rand
	program  string
	source   string
	out      string // folder
	target   string // in out
	old, new []byte
	took     time.Duration // a whole conversion

	words bytes.Buffer // standard error of the last conversion
	w     io.Writer
	wrong int
}

// counts are what was found under the final name and beside it.
type counts struct {
	runs, absent, old, new, temporary, failed int
}

func run(w io.Writer, n int, seed uint64) (int, error) {
	dir, err := os.MkdirTemp("", "tritter-crash-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // another user reads it, below
		return 0, err
	}
	t := &trial{r: rand.New(rand.NewPCG(seed, 0)), w: w, program: filepath.Join(dir, "tritter-convert"), source: filepath.Join(dir, "source"), out: filepath.Join(dir, "out")}
	if err := t.prepare(); err != nil {
		return 0, err
	}
	fmt.Fprintf(w, "a conversion takes %v and writes %d bytes\n\n", t.took.Round(time.Millisecond), len(t.new))
	fmt.Fprintln(w, "| interruption | conversions | old file stands | nothing stood, nothing stands | new file, whole | failed with a message | temporary files left | wrong |")
	fmt.Fprintln(w, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	quarter := max(n/4, 1)
	for _, way := range []struct {
		name string
		n    int
		run  func() (counts, error)
	}{
		{"SIGKILL", n, func() (counts, error) { return t.signals(syscall.SIGKILL) }},
		{"SIGTERM", quarter, func() (counts, error) { return t.signals(syscall.SIGTERM) }},
		{"limit on the size of files", quarter, t.limited},
		{"full disk", quarter, t.full},
		{"source cut while it is read", quarter, t.cut},
		{"source without permission", 1, t.forbidden},
	} {
		before := t.wrong
		var sum counts
		for range way.n {
			c, err := way.run()
			if err != nil {
				return t.wrong, fmt.Errorf("%s: %w", way.name, err)
			}
			sum.runs += c.runs
			sum.absent += c.absent
			sum.old += c.old
			sum.new += c.new
			sum.failed += c.failed
			sum.temporary += c.temporary
		}
		fmt.Fprintf(w, "| %s | %d | %d | %d | %d | %d | %d | %d |\n", way.name, sum.runs, sum.old, sum.absent, sum.new, sum.failed, sum.temporary, t.wrong-before)
	}
	return t.wrong, nil
}

// prepare builds the program, writes two checkpoints and converts both: the second
// is the old file.
func (t *trial) prepare() error {
	if out, err := exec.Command("go", "build", "-o", t.program, "github.com/tritter-ai/tritter/cmd/tritter-convert").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	if err := os.Mkdir(t.out, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(t.out, 0o777); err != nil {
		return err
	}
	t.target = filepath.Join(t.out, "model.trit")
	shape := synth.Shape{Class: "BitNetForCausalLM", Hidden: 128, Layers: 2, Heads: 4, KVHeads: 2, Intermediate: 384, Vocab: 1000, Context: 64, Tied: true}
	for seed, data := range []*[]byte{&t.old, &t.new} {
		if err := os.RemoveAll(t.source); err != nil {
			return err
		}
		if err := os.Mkdir(t.source, 0o755); err != nil {
			return err
		}
		if err := synth.Write(t.source, shape, synth.Online, checkpoint.BF16, uint64(seed)); err != nil {
			return err
		}
		begun := time.Now()
		if err := t.command().Run(); err != nil {
			return fmt.Errorf("%w: %s", err, t.words.String())
		}
		t.took = time.Since(begun)
		var err error
		if *data, err = os.ReadFile(t.target); err != nil {
			return err
		}
	}
	return os.Remove(t.target)
}

func (t *trial) command() *exec.Cmd {
	t.words.Reset()
	cmd := exec.Command(t.program, t.source, "-o", t.target, "-q")
	cmd.Stderr = &t.words
	return cmd
}

// begin puts the old file in its place, two times of three.
func (t *trial) begin() (before bool, err error) {
	if t.r.IntN(3) == 0 {
		err := os.Remove(t.target)
		if os.IsNotExist(err) {
			err = nil
		}
		return false, err
	}
	return true, os.WriteFile(t.target, t.old, 0o666)
}

// end looks at the folder after a conversion and removes temporary files; lasting
// says that the end left the program no time to do so.
func (t *trial) end(c counts, before, lasting bool, runErr error) (counts, error) {
	c.runs++
	data, err := os.ReadFile(t.target)
	switch {
	case os.IsNotExist(err):
		c.absent++
		if before {
			t.complain("the old file is lost")
		}
	case err != nil:
		return c, err
	case bytes.Equal(data, t.new):
		c.new++
		if err := t.verify(); err != nil {
			t.complain(err.Error())
		}
	case before && bytes.Equal(data, t.old):
		c.old++
	default:
		t.complain(fmt.Sprintf("%d bytes that are neither the old file nor the new one", len(data)))
	}
	if exit, ok := errors.AsType[*exec.ExitError](runErr); ok && !lasting {
		c.failed++
		// 1 and 130 are the program's own; -1 is SIGTERM before it could ask for it.
		if code := exit.ExitCode(); code != 1 && code != 130 && code != -1 {
			t.complain(fmt.Sprintf("exit code %d: %s", code, t.words.String()))
		}
	} else if runErr != nil && !ok {
		return c, runErr
	}
	left, err := filepath.Glob(filepath.Join(t.out, ".*"))
	if err != nil {
		return c, err
	}
	c.temporary += len(left)
	for _, path := range left {
		if !lasting {
			t.complain("a temporary file is left: " + path)
		}
		// It has all of the new file's bytes, or it is no .trit file.
		data, err := os.ReadFile(path)
		if err != nil {
			return c, err
		}
		if _, err := format.OpenBytes(data); err == nil && !bytes.Equal(data, t.new) {
			t.complain("a temporary file opens and is not the new file: " + path)
		}
		if err := os.Remove(path); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (t *trial) complain(what string) {
	t.wrong++
	fmt.Fprintln(t.w, "WRONG:", what)
}

func (t *trial) verify() error {
	r, err := verify.File(context.Background(), t.target, verify.Options{Workers: 1}, nil)
	if err == nil && !r.OK() {
		err = fmt.Errorf("the new file does not verify: %s", r.Findings[0].Message)
	}
	return err
}

// signals sends a signal at a random moment of a conversion. After one that cannot
// be caught, the next conversion runs beside the temporary file, to its end.
func (t *trial) signals(signal syscall.Signal) (counts, error) {
	before, err := t.begin()
	if err != nil {
		return counts{}, err
	}
	cmd := t.command()
	if err := cmd.Start(); err != nil {
		return counts{}, err
	}
	time.Sleep(time.Duration(t.r.Int64N(int64(t.took) * 11 / 10)))
	_ = cmd.Process.Signal(signal) // it may have ended
	runErr := cmd.Wait()
	if signal == syscall.SIGKILL && t.r.IntN(8) == 0 {
		if err := t.command().Run(); err != nil {
			t.complain(fmt.Sprintf("the conversion after a killed one fails: %s", t.words.String()))
		}
	}
	return t.end(counts{}, before, signal == syscall.SIGKILL, runErr)
}

// limited limits the size of files to less than the new one has.
func (t *trial) limited() (counts, error) {
	before, err := t.begin()
	if err != nil {
		return counts{}, err
	}
	blocks := t.r.IntN(len(t.new) / 1024)
	cmd := t.command()
	cmd.Args = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -f %d; exec "$0" "$@"`, blocks)}, cmd.Args...)
	if cmd.Path, err = exec.LookPath("sh"); err != nil {
		return counts{}, err
	}
	return t.end(counts{}, before, false, cmd.Run())
}

// full converts onto a disk that has less room than the new file needs, beside the
// old one.
func (t *trial) full() (counts, error) {
	out, target := t.out, t.target
	defer func() { t.out, t.target = out, target }()
	t.out = filepath.Join(filepath.Dir(out), "disk")
	if err := os.MkdirAll(t.out, 0o777); err != nil {
		return counts{}, err
	}
	before := t.r.IntN(3) > 0
	size := t.r.IntN(len(t.new))
	if before {
		size += up(len(t.old))
	}
	unmount, err := mountSmall(t.out, up(size))
	if err != nil {
		return counts{}, nil // not the one who may; the limit above is the same to the program
	}
	defer unmount()
	t.target = filepath.Join(t.out, "model.trit")
	if before {
		if err := os.WriteFile(t.target, t.old, 0o666); err != nil {
			return counts{}, err
		}
	}
	return t.end(counts{}, before, false, t.command().Run())
}

func up(n int) int { return (n + 4095) / 4096 * 4096 }

// cut shortens the weights at a random moment.
func (t *trial) cut() (counts, error) {
	before, err := t.begin()
	if err != nil {
		return counts{}, err
	}
	weights := filepath.Join(t.source, "model.safetensors")
	data, err := os.ReadFile(weights)
	if err != nil {
		return counts{}, err
	}
	cmd := t.command()
	if err := cmd.Start(); err != nil {
		return counts{}, err
	}
	time.Sleep(time.Duration(t.r.Int64N(int64(t.took) * 3 / 4)))
	if err := os.Truncate(weights, t.r.Int64N(int64(len(data)))); err != nil {
		return counts{}, err
	}
	runErr := cmd.Wait()
	if err := os.WriteFile(weights, data, 0o644); err != nil {
		return counts{}, err
	}
	return t.end(counts{}, before, false, runErr)
}

// forbidden converts as somebody who may not read the weights.
func (t *trial) forbidden() (counts, error) {
	weights := filepath.Join(t.source, "model.safetensors")
	if err := os.Chmod(weights, 0); err != nil {
		return counts{}, err
	}
	defer os.Chmod(weights, 0o644)
	if err := os.WriteFile(t.target, t.old, 0o666); err != nil {
		return counts{}, err
	}
	cmd := t.command()
	if os.Getuid() == 0 { // who may read everything
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	runErr := cmd.Run()
	if runErr == nil {
		t.complain("weights that may not be read were converted")
	}
	return t.end(counts{}, true, false, runErr)
}

// Package cli is what the three commands share: parsing, exit codes, Ctrl-C,
// progress bars, and the words for sizes.
package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/term"
)

// Exit codes.
const (
	ExitFailed  = 1   // the work could not be done
	ExitUsage   = 2   // the command line is wrong
	ExitFinding = 3   // something is wrong with the file that was verified
	ExitSignal  = 130 // Ctrl-C
)

// Exit is an error that asks for an exit code of its own. Err may be nil: then
// nothing more is said.
type Exit struct {
	Code int
	Err  error
}

func (e *Exit) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *Exit) Unwrap() error { return e.Err }

// Usage returns an error of the command line.
func Usage(format string, args ...any) error {
	return &Exit{ExitUsage, fmt.Errorf(format, args...)}
}

// Version is the version of the commands.
const Version = "0.1"

// Common holds the flags that all commands have; grammars embed it.
type Common struct {
	Version versionFlag `help:"Print the version and exit." short:"V"`
}

type versionFlag bool

// BeforeReset prints the version instead of running the command.
func (versionFlag) BeforeReset(app *kong.Kong) error {
	line := fmt.Sprintf("%s %s %s %s/%s", app.Model.Name, Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				line += " " + s.Value
			}
		}
	}
	if _, err := fmt.Fprintln(app.Stdout, line); err != nil {
		return err
	}
	app.Exit(0)
	return nil
}

// Print calls fn with a buffer in front of standard output and returns the first
// error of writing: a full disk or a reader that went away must not look like
// success.
func Print(fn func(w io.Writer)) error {
	w := bufio.NewWriter(os.Stdout)
	fn(w)
	return w.Flush()
}

// PrintJSON prints v as JSON with every character of a text as it is, on one line
// when indent is empty.
func PrintJSON(v any, indent string) error {
	w := bufio.NewWriter(os.Stdout)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return err
	}
	return w.Flush()
}

// Main parses args into grammar, a pointer to a struct with kong tags, calls the
// Run method of the command that they select, and exits. Run may take a
// context.Context, which ends with the first Ctrl-C; a second one kills.
func Main(name, description string, grammar any, args []string) {
	os.Exit(run(name, description, grammar, args))
}

func run(name, description string, grammar any, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second signal has its usual effect
	parser, err := kong.New(grammar, kong.Name(name), kong.Description(description), kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}), kong.BindTo(ctx, (*context.Context)(nil)))
	if err != nil {
		panic(err) // the grammar itself is wrong
	}
	ignoreFileSize()
	k, err := parser.Parse(args)
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return complain(name, err) // help or version could not be written
	}
	if err != nil {
		return complain(name, &Exit{ExitUsage, fmt.Errorf("%w; %s --help explains", err, name)})
	}
	err = k.Run()
	if err != nil && ctx.Err() != nil {
		return complain(name, &Exit{ExitSignal, errors.New("interrupted")})
	}
	return complain(name, err)
}

// complain prints err, if there is one, and returns the exit code.
func complain(name string, err error) int {
	if err == nil {
		return 0
	}
	code := ExitFailed
	if e, ok := errors.AsType[*Exit](err); ok {
		code = e.Code
		if e.Err == nil {
			return code
		}
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	return code
}

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// Bytes spells a number of bytes for people.
func Bytes(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/tritter-ai/tritter/chat"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/cli"
	"github.com/tritter-ai/tritter/runtime"
)

type chatCommand struct {
	modelFlags
	engineFlags
	samplingFlags
	System       string `help:"System message: what the model is told before the conversation." placeholder:"TEXT"`
	ChatTemplate string `help:"Jinja template of the conversation instead of the file's: a file, or a built-in one (bitnet, chatml, gemma, llama2, llama3, mistral, plain)." placeholder:"FILE|NAME"`
	Stats        bool   `help:"Print tokens, speed and what was reused of the cache on standard error."`
}

// Help is the long help of the command.
func (c *chatCommand) Help() string {
	return "Each line of standard input is a message; the answers go to standard output. Ctrl-C stops an answer, a second one leaves. " + chatHelp
}

const chatHelp = "A line that begins with / is a command: /help, /reset (begin anew), /history, /system TEXT (begin anew with a system message), /save FILE (as JSON), /quit. A message that begins with / is written //."

// Run holds a conversation.
func (c *chatCommand) Run(ctx context.Context) error {
	m, err := c.modelFlags.open(ctx, c.engineFlags.fits)
	if err != nil {
		return err
	}
	t, err := c.template(m)
	if err != nil {
		return err
	}
	opt := chat.SessionOptions{System: c.System, EOS: m.Generation.EOS, Stop: c.Stop}
	if opt.Sampling, err = c.sampling(m); err != nil {
		return err
	}
	if opt.MaxNewTokens, err = c.maxNewTokens(m, 512); err != nil {
		return err
	}
	e, err := c.engineFlags.open(m)
	if err != nil {
		return err
	}
	defer e.Close()
	s := chat.NewSession(e, t, opt)
	defer s.Close()
	terminal := &conversation{session: s, stats: c.Stats, engine: e.Name(), seed: opt.Sampling.Seed, interactive: cli.IsTerminal(os.Stdin), signals: make(chan os.Signal, 2)}
	signal.Notify(terminal.signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(terminal.signals)
	return terminal.hold(context.WithoutCancel(ctx), os.Stdin) // Ctrl-C ends ctx, but only an answer here
}

// template is that of the flag or the file.
func (c *chatCommand) template(m *runtime.Model) (*chat.Template, error) {
	tokenizer, err := m.Tokenizer()
	if err != nil {
		return nil, err
	}
	where, source := c.ChatTemplate, ""
	if where != "" {
		source, err = chat.Load(where)
	} else {
		var data []byte
		data, err = m.File().Section(format.SectionChat)
		where, source = c.Model, string(data)
	}
	if errors.Is(err, format.ErrNoSection) {
		return nil, fmt.Errorf("the model holds no chat template; give one with --chat-template FILE, or the name of a built-in one: %s (plain suits models that were not trained on conversations)", strings.Join(chat.Builtins(), ", "))
	}
	if err != nil {
		return nil, err
	}
	var opt chat.Options
	for _, id := range m.Generation.EOS { // ascending: of several, the last ends a turn, the others a text
		if tokenizer.IsSpecial(id) {
			opt.EOS = &id
		}
	}
	t, err := chat.New(source, tokenizer, opt)
	return t, named(where, err)
}

// conversation is a session with a person or a pipe.
type conversation struct {
	session     *chat.Session
	stats       bool
	engine      string
	seed        uint64
	interactive bool
	signals     chan os.Signal
}

var errInterrupted = &cli.Exit{Code: cli.ExitSignal, Err: errors.New("interrupted")}

// errQuit ends the conversation without an error.
var errQuit = errors.New("quit")

// hold reads messages and commands until the input ends, or Ctrl-C is pressed while
// no answer is being given.
func (c *conversation) hold(ctx context.Context, in io.Reader) error {
	lines, readErr := make(chan string), make(chan error, 1)
	go func() {
		r := bufio.NewReader(in)
		for {
			line, err := r.ReadString('\n')
			if line = strings.TrimRight(line, "\r\n"); line != "" {
				lines <- line
			}
			if err != nil {
				if err == io.EOF {
					err = nil
				}
				readErr <- err
				return
			}
		}
	}()
	c.note(chatHelp)
	for {
		if c.interactive {
			fmt.Fprint(os.Stderr, "> ")
		}
		select {
		case line := <-lines:
			err := c.line(ctx, line)
			switch {
			case err == errQuit:
				return nil
			case err == errInterrupted, err != nil && !c.interactive:
				return err
			case err != nil:
				c.note(err.Error())
			}
		case err := <-readErr:
			return err
		case <-c.signals:
			return errInterrupted
		}
	}
}

// note says something to a person; a pipe is spared it.
func (c *conversation) note(text string) {
	if c.interactive {
		fmt.Fprintln(os.Stderr, text)
	}
}

// line obeys a command or says a message.
func (c *conversation) line(ctx context.Context, line string) error {
	if strings.HasPrefix(line, "//") {
		return c.say(ctx, line[1:])
	}
	if !strings.HasPrefix(line, "/") {
		return c.say(ctx, line)
	}
	name, argument, _ := strings.Cut(line, " ")
	argument = strings.TrimSpace(argument)
	switch name {
	case "/help":
		fmt.Fprintln(os.Stderr, chatHelp)
	case "/reset":
		c.session.Reset(c.system())
	case "/system":
		c.session.Reset(argument)
	case "/history":
		return cli.Print(func(w io.Writer) {
			for _, m := range c.session.Messages() {
				fmt.Fprintf(w, "%s: %s\n", m.Role, m.Content)
			}
		})
	case "/save":
		return c.save(argument)
	case "/quit":
		return errQuit
	default:
		return fmt.Errorf("there is no command %s; /help lists them, and // begins a message that begins with /", name)
	}
	return nil
}

func (c *conversation) system() string {
	if m := c.session.Messages(); len(m) > 0 && m[0].Role == chat.System {
		return m[0].Content
	}
	return ""
}

func (c *conversation) save(path string) error {
	if path == "" {
		return errors.New("/save wants the name of a file")
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(append([]chat.Message{}, c.session.Messages()...)); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}

// say gets the answer to a message; Ctrl-C stops it.
func (c *conversation) say(ctx context.Context, text string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	stopped := make(chan os.Signal, 1)
	go func() {
		select {
		case s := <-c.signals:
			stopped <- s
			cancel()
		case <-done:
		}
	}()
	var writeErr error
	turn, err := c.session.Say(ctx, text, func(piece string) bool {
		_, writeErr = io.WriteString(os.Stdout, piece)
		return writeErr == nil
	})
	close(done)
	if turn.NewTokens > 0 {
		fmt.Println()
	}
	select {
	case s := <-stopped:
		if s == syscall.SIGTERM {
			return errInterrupted
		}
		fmt.Fprintln(os.Stderr, "(stopped)")
		err = nil
	default:
	}
	if _, full := errors.AsType[*runtime.ContextError](err); full {
		return fmt.Errorf("%w; /reset begins a new conversation", err)
	}
	if err = errors.Join(err, writeErr); err != nil {
		return err
	}
	if turn.Finish == runtime.FinishContext {
		fmt.Fprintln(os.Stderr, "(the context is full; /reset begins a new conversation)")
	}
	if c.stats {
		fmt.Fprintf(os.Stderr, "prefill %d tokens, %d reused; new %d tokens; end: %s; seed %d; engine %s\n", turn.PromptTokens, turn.Reused, turn.NewTokens, turn.Finish, c.seed, c.engine)
	}
	return nil
}

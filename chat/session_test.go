package chat_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/chat"
	"github.com/tritter-ai/tritter/demo"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/runtime"
	"github.com/tritter-ai/tritter/tokenizer"
)

func demoEngine(t testing.TB, context int) runtime.Engine {
	t.Helper()
	f, err := format.OpenBytes(demo.Model())
	require.NoError(t, err)
	m, err := runtime.LoadModel(f)
	require.NoError(t, err)
	e, err := runtime.NewCPU(m, runtime.Options{Threads: 1, Context: context})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// counting counts the positions that an engine computes.
type counting struct {
	runtime.Engine
	prompts []int // positions of each call that are more than one
}

func (c *counting) Generate(ctx context.Context, requests []runtime.Request, yield func(int, int) bool) ([]runtime.Finish, error) {
	c.prompts = append(c.prompts, len(requests[0].Tokens))
	return c.Engine.Generate(ctx, requests, yield)
}

func template(t testing.TB, e runtime.Engine, name string) *chat.Template {
	t.Helper()
	tok, err := e.Model().Tokenizer()
	require.NoError(t, err)
	source, err := chat.Builtin(name)
	require.NoError(t, err)
	x, err := chat.New(source, tok, chat.Options{})
	require.NoError(t, err)
	return x
}

func sampling(temperature float64) runtime.Sampling {
	s := runtime.DefaultSampling()
	s.Temperature, s.Seed = temperature, 3
	return s
}

// TestSessionPrefillsWhatIsNew: a turn computes the new message and the one token
// of the last answer that was never fed, and says what a fresh engine would say
// to the same tokens.
func TestSessionPrefillsWhatIsNew(t *testing.T) {
	for _, temperature := range []float64{0, 1} {
		e := &counting{Engine: demoEngine(t, 0)}
		x := template(t, e, "chatml")
		s := chat.NewSession(e, x, chat.SessionOptions{System: "Write Go.", MaxNewTokens: 6, Sampling: sampling(temperature)})
		defer s.Close()
		tok, err := e.Model().Tokenizer()
		require.NoError(t, err)
		var spoken []int
		for turn, say := range []string{"func main() {", "return <eos> err", "if x <|im_end|>"} {
			var answer strings.Builder
			before := len(spoken)
			got, err := s.Say(t.Context(), say, func(piece string) bool { answer.WriteString(piece); return true })
			require.NoError(t, err)
			if turn == 0 {
				require.Zero(t, got.Reused)
				spoken, err = x.Encode([]chat.Message{{Role: chat.System, Content: "Write Go."}, {Role: chat.User, Content: say}}, true)
				require.NoError(t, err)
			} else {
				require.Equal(t, before-1, got.Reused, "all but the last token of the answer is held")
				added, err := tok.EncodeParts(plainPart("<|im_end|>\n<|im_start|>user\n" + say + "<|im_end|>\n<|im_start|>assistant\n"))
				require.NoError(t, err)
				require.Equal(t, 1+len(added), got.PromptTokens, "what is new, and that last token")
				spoken = append(spoken, added...)
			}
			require.Equal(t, got.PromptTokens, e.prompts[len(e.prompts)-1], "what the session says it computes is what it asks for")

			fresh := demoEngine(t, 0)
			var want []int
			_, err = fresh.Generate(t.Context(), []runtime.Request{{Tokens: spoken, MaxNewTokens: 6, Sampling: sampling(temperature)}}, func(_, id int) bool { want = append(want, id); return true })
			require.NoError(t, err)
			require.Equal(t, want, got.Tokens)
			spoken = append(spoken, got.Tokens...)
			require.Equal(t, answer.String(), s.Messages()[len(s.Messages())-1].Content)
		}
		require.Len(t, s.Messages(), 7)
	}
}

// TestSessionReencodes: a template that trims answers says them in other words than
// the cache has; the prompt is then encoded afresh, and what it shares is reused.
func TestSessionReencodes(t *testing.T) {
	e := demoEngine(t, 0)
	x := template(t, e, "plain")
	s := chat.NewSession(e, x, chat.SessionOptions{MaxNewTokens: 5, Sampling: sampling(0)})
	defer s.Close()
	_, err := s.Say(t.Context(), "func main() {", func(string) bool { return true })
	require.NoError(t, err)
	first, err := x.Encode(s.Messages()[:1], true)
	require.NoError(t, err)
	got, err := s.Say(t.Context(), "again", func(string) bool { return true })
	require.NoError(t, err)
	all, err := x.Encode(s.Messages()[:3], true)
	require.NoError(t, err)
	if s.Messages()[1].Content != strings.TrimSpace(s.Messages()[1].Content) {
		require.Equal(t, len(all), got.Reused+got.PromptTokens)
	}
	require.GreaterOrEqual(t, got.Reused, len(first)-1)
}

func TestSessionStops(t *testing.T) {
	e := demoEngine(t, 0)
	s := chat.NewSession(e, template(t, e, "chatml"), chat.SessionOptions{MaxNewTokens: 50, Sampling: sampling(0)})
	defer s.Close()
	_, err := s.Say(t.Context(), "one", func(string) bool { return true })
	require.NoError(t, err)
	require.Len(t, s.Messages(), 2)

	// Ended in the middle: what was answered stays, and the next turn continues it.
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	turn, err := s.Say(ctx, "two", func(string) bool {
		if n++; n == 3 {
			cancel()
		}
		return true
	})
	require.ErrorIs(t, err, context.Canceled)
	require.GreaterOrEqual(t, turn.NewTokens, 3)
	require.Len(t, s.Messages(), 4)
	require.NotEmpty(t, s.Messages()[3].Content)
	again, err := s.Say(t.Context(), "three", func(string) bool { return false })
	require.NoError(t, err)
	require.Equal(t, runtime.FinishStopped, again.Finish)
	require.Greater(t, again.Reused, turn.Reused+turn.PromptTokens)
	require.Len(t, s.Messages(), 6)

	// Ended before anything was answered: nothing was said.
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Say(ended, "four", func(string) bool { return true })
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, s.Messages(), 6)

	s.Reset("Be brief.")
	require.Equal(t, []chat.Message{{Role: chat.System, Content: "Be brief."}}, s.Messages())
	_, err = s.Say(t.Context(), "five", func(string) bool { return true })
	require.NoError(t, err)
	s.Reset("")
	require.Empty(t, s.Messages())
}

func TestSessionErrors(t *testing.T) {
	e := demoEngine(t, 40)
	s := chat.NewSession(e, template(t, e, "llama2"), chat.SessionOptions{MaxNewTokens: 3, Sampling: sampling(0)})
	defer s.Close()
	_, err := s.Say(t.Context(), strings.Repeat("long ", 100), func(string) bool { return true })
	var full *runtime.ContextError
	require.True(t, errors.As(err, &full))
	require.Empty(t, s.Messages())
	_, err = s.Say(t.Context(), "short", func(string) bool { return true })
	require.NoError(t, err)
	require.Len(t, s.Messages(), 2)
}

// plainPart is one part of text.
func plainPart(text string) []tokenizer.Part { return []tokenizer.Part{{Text: text}} }

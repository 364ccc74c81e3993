package runtime

import (
	"context"
	"fmt"

	"github.com/tritter-ai/tritter/kernels"
)

// Engine computes a model. All engines give the same bits. An Engine is safe for
// concurrent use: calls that compute are serialized.
type Engine interface {
	// Name tells the implementation: "cpu/ref".
	Name() string
	// Model returns the model that the engine runs.
	Model() *Model
	// NewSequence starts an empty sequence.
	NewSequence() Sequence
	// Forward appends the positions of each span to its sequence and returns one
	// Result a span. On an error no sequence has changed.
	Forward(ctx context.Context, spans []Span) ([]Result, error)
	// Generate runs the requests together, one token each a step, and calls yield
	// for every new token as it is sampled; yield false ends that request. It
	// returns one Finish a request.
	Generate(ctx context.Context, requests []Request, yield func(request, token int) bool) ([]Finish, error)
	// Plan tells what memory the engine uses.
	Plan() MemoryPlan
	// Close frees what the engine holds; its sequences become invalid.
	Close() error
}

// Sequence is the state of one text: its key-value cache. Its methods must not run
// while a call of the engine uses it.
type Sequence interface {
	// Len returns the number of positions held.
	Len() int
	// Truncate drops the positions from n on.
	Truncate(n int)
	// Fork returns a second sequence of the same content. Pages are shared until
	// one of the two writes to them.
	Fork() Sequence
	// Close releases the pages.
	Close()
}

// Positions says for which positions of a span something is returned.
type Positions uint8

// The choices of Positions.
const (
	PositionNone Positions = iota
	PositionLast
	PositionAll
)

// count returns how many of n positions are meant.
func (p Positions) count(n int) int {
	switch p {
	case PositionAll:
		return n
	case PositionLast:
		return 1
	}
	return 0
}

// Span is a stretch of positions appended to one sequence: either Tokens or
// Embeddings.
type Span struct {
	Seq        Sequence
	Tokens     []int
	Embeddings []float32 // [n, hidden], in place of looking tokens up
	Logits     Positions // logits to return
	Hidden     Positions // hidden states after the final norm to return
}

// Result is what Forward returns for one span. The caller owns it.
type Result struct {
	Logits []float32 // [n, vocab]: n is 0, 1 or the span's length, as wanted
	Hidden []float32 // [n, hidden], likewise
}

// Request asks for a continuation.
type Request struct {
	Seq          Sequence // what came before; nil starts a new sequence, closed at the end
	Tokens       []int    // the prompt, at least one token
	MaxNewTokens int
	EOS          []int // ids that end generation; they are not yielded
	Sampling     Sampling
	Penalized    []int // tokens in Seq that the repetition penalty also sees
}

// Finish says why a request ended.
type Finish string

// The reasons to end.
const (
	FinishEOS     Finish = "eos"     // an end-of-text token was sampled
	FinishLength  Finish = "length"  // MaxNewTokens were generated
	FinishStopped Finish = "stop"    // yield returned false
	FinishContext Finish = "context" // the context is full
)

// MemoryPlan is an account of memory in bytes.
type MemoryPlan struct {
	Mapped   int64 `json:"mapped"`    // weights used from the file in place
	Loaded   int64 `json:"loaded"`    // weights unpacked into memory
	Cache    int64 `json:"cache"`     // key-value cache of one sequence of Context positions
	PerToken int64 `json:"per_token"` // key-value cache of one position
	Context  int   `json:"context"`   // positions that a sequence may hold
}

// Options configure an engine.
type Options struct {
	Context int // greatest length of a sequence; 0 is the model's max_position_embeddings
	Threads int // goroutines that compute; 0 is GOMAXPROCS
	Device  int // number of the CUDA device, for NewCUDA

	// Kernels computes; nil is the fastest implementation of this machine. All
	// give the same bits (kernels/cpu lists them).
	Kernels kernels.Ops
}

// ContextError reports a sequence that would grow past the engine's context.
type ContextError struct {
	Len, Add, Context int
}

func (e *ContextError) Error() string {
	return fmt.Sprintf("%d positions and %d more do not fit in a context of %d; shorten the prompt or raise --context (at most the model's max_position_embeddings)", e.Len, e.Add, e.Context)
}

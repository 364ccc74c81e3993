package runtime

import (
	"context"
	"fmt"
	"slices"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/model"
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
	// ForwardInto is Forward with results of an earlier call, or nil, whose memory
	// is used again where it suffices: a loop that gives back what it was given
	// allocates nothing. After an error the content of results is lost.
	ForwardInto(ctx context.Context, spans []Span, results []Result) ([]Result, error)
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
	// Truncate drops the positions from n on. n is 0, or at least Oldest.
	Truncate(n int)
	// Oldest returns the least length, other than 0, that Truncate accepts: 0 unless
	// a window has let go of positions. It is never far behind Len then: a window
	// keeps what the next positions attend to.
	Oldest() int
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

	// Top, with PositionLast, says that only the Top greatest logits and those of
	// the tokens in Keep matter. An engine with a filter (Options.Filter) may leave
	// others out; they are -Inf, and Result.Filtered is set. 0 wants all logits.
	Top  int
	Keep map[int]bool

	Hidden Positions // hidden states after the final norm to return
}

// Result is what Forward returns for one span. The caller owns it.
type Result struct {
	Logits   []float32 // [n, vocab]: n is 0, 1 or the span's length, as wanted
	Filtered bool      // some logits are -Inf: left out (Span.Top)
	Hidden   []float32 // [n, hidden], likewise
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
	FinishError   Finish = "error"   // the request failed (Batch)
)

// MemoryPlan is an account of memory in bytes.
type MemoryPlan struct {
	Mapped      int64  `json:"mapped"`           // weights used from the file in place
	Loaded      int64  `json:"loaded"`           // weights unpacked or copied into memory
	Cache       int64  `json:"cache"`            // key-value cache of one sequence of Context positions, under a window of those it keeps
	Activations int64  `json:"activations"`      // buffers of a step
	PerToken    int64  `json:"per_token"`        // key-value cache of one position
	Context     int    `json:"context"`          // positions that a sequence may have
	Load        Load   `json:"load"`             // how the weights are held
	Huge        int64  `json:"huge,omitempty"`   // of Loaded, in 2 MiB pages
	Filter      int64  `json:"filter,omitempty"` // of Loaded, the filter before the head
	Note        string `json:"note,omitempty"`   // what could not be had as asked for

	KV     string `json:"kv"`               // format of the cache: "f32"
	Window int    `json:"window,omitempty"` // positions of the sliding window, 0 without one
	Sinks  int    `json:"sinks,omitempty"`  // positions attended to beside it
}

// Total is all that the engine uses.
func (p *MemoryPlan) Total() int64 { return p.Mapped + p.Loaded + p.Cache + p.Activations }

// Load says how an engine holds weights.
type Load string

// LoadDevice is a copy in the memory of a GPU: what the plan of such an engine says.
const LoadDevice Load = "device"

// The ways to hold weights on the CPU, of Options.Load.
const (
	LoadMmap Load = "mmap" // in place, in the map of the file: ready at once, shared between processes
	LoadHuge Load = "huge" // copied into pages of 2 MiB, which memory reads a quarter faster; Linux only
)

// Options configure an engine.
type Options struct {
	// Context is the greatest length of a sequence. 0 is the greatest there is: the
	// model's max_position_embeddings, or MaxPositions with a window.
	Context int
	Threads int // goroutines that compute; 0 is GOMAXPROCS
	Device  int // number of the CUDA device, for NewCUDA

	// Fast lets a GPU compute the attention of prompts in bfloat16 on tensor cores.
	// Results are near to the exact ones and not the same, and may differ between
	// devices and with the way tokens are split into calls; one token at a time, and
	// all on the CPU, is exact as ever. The plan's Note says what it does.
	Fast bool

	KV kernels.KVFormat // how keys and values are stored; 0 is f32

	// Window > 0 makes each position attend to the last Window positions, itself
	// included, and to the first Sinks ones, and nothing else: the cache stays as
	// large as those, however long a sequence grows (Xiao, Tian, Chen, Han and Lewis,
	// Efficient Streaming Language Models with Attention Sinks, 2023). Sinks + Window
	// is at most max_position_embeddings. NewCUDA has no windows.
	Window, Sinks int

	// Load is how weights are held; "" is LoadMmap. Where huge pages cannot be had,
	// the plan's Note says so. A file that is not mapped is used where it is.
	Load Load
	// Prefault has mapped weights paged in, in the background, instead of when they
	// are first read.
	Prefault bool

	// Filter keeps an int8 copy of a float head, which finds the greatest logits
	// exactly and in less time where no others matter (greedy and top-k sampling).
	Filter bool

	// Kernels computes; nil is the fastest implementation of this machine. All
	// give the same bits (kernels/cpu lists them).
	Kernels kernels.Ops
}

// The window that long texts usually have.
const (
	DefaultWindow = 4096
	DefaultSinks  = 4
)

// MaxPositions bounds the length of every sequence: rotary angles are defined below
// it.
const MaxPositions = 1 << 24

// completePositions fills in what is left open of the cache and reports what does
// not fit the model.
func (opt *Options) completePositions(c *model.Config) error {
	if opt.KV == 0 {
		opt.KV = kernels.KVF32
	}
	if !slices.Contains(kernels.KVFormats, opt.KV) {
		return fmt.Errorf("KV format is %d, want KVF32, KVF16, KVInt8 or KVInt4", opt.KV)
	}
	limit, what := c.MaxPositionEmbeddings, "the model's max_position_embeddings"
	switch {
	case opt.Window < 0 || opt.Sinks < 0:
		return fmt.Errorf("window is %d with %d sinks, want 0 or more of both", opt.Window, opt.Sinks)
	case opt.Window == 0 && opt.Sinks > 0:
		return fmt.Errorf("sinks is %d without a window; set a window, or no sinks", opt.Sinks)
	case opt.Sinks > limit || opt.Window > limit-opt.Sinks:
		return fmt.Errorf("a window of %d and %d sinks are %d positions, want at most %d, %s", opt.Window, opt.Sinks, opt.Window+opt.Sinks, limit, what)
	case opt.Window > 0:
		limit, what = MaxPositions, "the greatest position there is"
	}
	if opt.Context == 0 {
		opt.Context = limit
	}
	if opt.Context < 1 || opt.Context > limit {
		return fmt.Errorf("context is %d, want 1 to %d, %s", opt.Context, limit, what)
	}
	return nil
}

// ContextError reports a sequence that would grow past the engine's context.
type ContextError struct {
	Len, Add, Context int
}

func (e *ContextError) Error() string {
	return fmt.Sprintf("%d positions and %d more do not fit in a context of %d; shorten the prompt, raise --context (at most the model's max_position_embeddings) or use a sliding window (--window)", e.Len, e.Add, e.Context)
}

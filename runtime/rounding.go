package runtime

import (
	"fmt"
	goruntime "runtime"

	"github.com/tritter-ai/tritter/codebook"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/kernels/ref"
	"github.com/tritter-ai/tritter/nearest"
)

// Rounding is a way from a hidden state to a token.
type Rounding string

// The ways to round.
const (
	RoundLogits Rounding = "logits" // the head gives logits, a token is sampled
	RoundKNN    Rounding = "knn"    // the nearest rows of the embedding matrix
	RoundVQ     Rounding = "vq"     // the nearest vector of the codebook of hidden states
)

// RounderOptions configure an EmbeddingRounder.
type RounderOptions struct {
	Rounding    Rounding       // RoundKNN or RoundVQ
	Metric      nearest.Metric // of RoundKNN; 0 is Cosine. RoundVQ is Euclidean
	K           int            // rows to choose among; 0 is 1, the nearest alone
	Temperature float64        // in [0, 2], with K > 1; 0 takes the nearest
}

// EmbeddingRounder maps hidden states to tokens without the head, by the rows that
// are nearest to them (spec/numerics.md, section 17). It is exact: all engines and
// any number of threads give the same rows and values. It is safe for concurrent
// use and is valid as long as the engine's model is.
type EmbeddingRounder struct {
	opt   RounderOptions
	table *nearest.Table
	first int // token of row 0
}

// NewEmbeddingRounder measures every row of the table once: of the model's
// embedding matrix or, for RoundVQ, of the file's codebook of hidden states; a
// file without one is a *NoCodebookError.
func NewEmbeddingRounder(e Engine, opt RounderOptions) (*EmbeddingRounder, error) {
	if opt.K == 0 {
		opt.K = 1
	}
	if opt.K < 1 {
		return nil, fmt.Errorf("k is %d, want at least 1: 1 takes the nearest row, more draw among the k nearest", opt.K)
	}
	s := Sampling{Temperature: opt.Temperature, TopP: 1, RepetitionPenalty: 1}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	r := &EmbeddingRounder{opt: opt}
	m := e.Model()
	rows := &m.embed
	switch opt.Rounding {
	case RoundKNN:
		if opt.Metric == 0 {
			r.opt.Metric = nearest.Cosine
		}
	case RoundVQ:
		if opt.Metric != 0 && opt.Metric != nearest.Euclidean {
			return nil, fmt.Errorf("metric %v with a codebook, want euclidean: that is how its codes were learned", opt.Metric)
		}
		r.opt.Metric = nearest.Euclidean
		book, err := m.Codebook(codebook.Embedding)
		if err != nil {
			return nil, err
		}
		rows, r.first = book.Rows(), book.FirstID()
	default:
		return nil, fmt.Errorf("rounding %q, want knn or vq; logits needs no rounder", opt.Rounding)
	}
	ops, threads := computes(e)
	var err error
	r.table, err = nearest.New(rows, ops, nearest.Threads(threads, format.Guard))
	return r, err
}

// computes returns the operations and the number of threads of an engine; one
// that does not compute on the CPU gives those that are fastest here.
func computes(e Engine) (kernels.Ops, int) {
	if e, ok := e.(*cpuEngine); ok {
		return e.ops, e.opt.Threads
	}
	return cpu.New(), goruntime.GOMAXPROCS(0)
}

// Neighbour is a token near a hidden state.
type Neighbour struct {
	Token  int     `json:"token"`
	Value  float32 `json:"value"`  // squared distance, or cosine
	Weight float32 `json:"weight"` // share of the draw among the k: they add up to 1
}

// Neighbours returns the K tokens nearest to a hidden state of hidden_size
// elements, nearest first. The error reports a state that is not finite.
func (r *EmbeddingRounder) Neighbours(state []float32) ([]Neighbour, error) {
	rows, err := r.table.Search(state, r.opt.Metric, r.opt.K)
	if err != nil {
		return nil, err
	}
	out := make([]Neighbour, len(rows))
	var total float32
	for i, row := range rows {
		out[i] = Neighbour{Token: r.first + row.ID, Value: row.Value}
		switch t := float32(r.opt.Temperature); {
		case i == 0:
			out[i].Weight = 1
		case t > 0:
			out[i].Weight = ref.Exp32(r.logit(row)/t - r.logit(rows[0])/t)
		}
		total += out[i].Weight
	}
	for i := range out {
		out[i].Weight /= total
	}
	return out, nil
}

// logit is what stands for a row when one is drawn.
func (r *EmbeddingRounder) logit(row nearest.Row) float32 {
	if r.opt.Metric == nearest.Cosine {
		return row.Value
	}
	return -row.Value
}

// Round returns the token of a hidden state: the nearest, or one of the K nearest,
// drawn with the random bits that seed gives to a position of the sequence.
func (r *EmbeddingRounder) Round(state []float32, seed uint64, position int) (int, error) {
	rows, err := r.table.Search(state, r.opt.Metric, r.opt.K)
	if err != nil {
		return 0, err
	}
	logits := make([]float32, len(rows)) // in order, so that the lower index is the nearer row
	for i, row := range rows {
		logits[i] = r.logit(row)
	}
	s := Sampling{Temperature: r.opt.Temperature, TopP: 1, RepetitionPenalty: 1, Seed: seed}
	at, err := s.Sample(logits, nil, position)
	if err != nil {
		return 0, err
	}
	return r.first + rows[at].ID, nil
}

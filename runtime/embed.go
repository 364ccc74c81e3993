package runtime

import "context"

// Embed returns the hidden states of tokens after the final norm, [n, hidden] of
// every position or of the last one.
func Embed(ctx context.Context, e Engine, tokens []int, all bool) ([]float32, error) {
	seq := e.NewSequence()
	defer seq.Close()
	positions := PositionLast
	if all {
		positions = PositionAll
	}
	results, err := e.Forward(ctx, []Span{{Seq: seq, Tokens: tokens, Hidden: positions}})
	if err != nil {
		return nil, err
	}
	return results[0].Hidden, nil
}

package runtime

import (
	"context"
	"fmt"
)

func (e *cpuEngine) Generate(ctx context.Context, requests []Request, yield func(request, token int) bool) ([]Finish, error) {
	return generate(ctx, e, requests, yield)
}

// generate runs requests to their end in one Batch, whose ids are their indexes.
func generate(ctx context.Context, e Engine, requests []Request, yield func(request, token int) bool) ([]Finish, error) {
	b := NewBatch(e)
	defer b.Close()
	for i := range requests {
		if _, err := b.Add(requests[i]); err != nil {
			return nil, fmt.Errorf("request %d: %w", i, err)
		}
	}
	finish := make([]Finish, len(requests))
	for b.Len() > 0 {
		events, err := b.Step(ctx)
		if err != nil {
			return nil, err
		}
		for _, ev := range events {
			if ev.Err != nil {
				return nil, fmt.Errorf("request %d: %w", ev.ID, ev.Err)
			}
			finish[ev.ID] = ev.Finish
			if ev.Token >= 0 && !yield(ev.ID, ev.Token) {
				finish[ev.ID] = FinishStopped
				b.Remove(ev.ID)
			}
		}
	}
	return finish, nil
}

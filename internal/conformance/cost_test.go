// The race detector empties pools and slows loops: costs are measured without it.
//
//go:build !race

package conformance

import (
	"bytes"
	"context"
	"fmt"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/verify"
)

// TestHostileContentIsCheap verifies files whose hashes are right and whose content
// was made to cost: everything wrong in as many places as there can be.
func TestHostileContentIsCheap(t *testing.T) {
	many := strings.Repeat("0,", 1<<16) + "0"
	tensors := func(n int) *file {
		f := plain()
		for i := range n {
			x := dense(fmt.Sprintf("layers.%d.q.weight", i+10), f32, 1, 0)
			f.tensors = append(f.tensors, x)
		}
		return f
	}
	layers := small()
	layers.edits = []string{`"num_layers":1`, `"num_layers":4096`}
	f := plain()
	for name, f := range map[string]*file{
		"a list of equal ids":            plain().with("generation", `{"eos":[`+many+`]}`),
		"a prompt of wrong ids":          plain().with("self-test", `{"logits":[{"bits":0,"id":0}],"prompt":[`+strings.ReplaceAll(many, "0", "9")+`],"texts":[]}`),
		"logits that do not descend":     plain().with("self-test", `{"logits":[`+strings.Repeat(`{"bits":0,"id":9},`, 1<<15)+`{"bits":0,"id":0}],"prompt":[0],"texts":[]}`),
		"norms without end":              plainWith(`"norms":[]`, `"norms":[`+strings.Repeat(`"q",`, 1<<17)+`"q"]`),
		"sources without end":            f.with("provenance", edit(provenanceJSON(f), `"tensors":[`, `"tensors":[`+strings.Repeat(`{"dtype":"","file":"","name":"","rule":"","sha256":"","shape":[],"target":""},`, 1<<14))),
		"a tokenizer of one long string": plain().with("tokenizer", `{"version":"`+strings.Repeat("x", 4<<20)+`"}`),
		"a tokenizer of brackets":        plain().with("tokenizer", strings.Repeat("[", 4<<20)),
		"text of brackets":               plain().with("provenance", strings.Repeat("[", 4<<20)),
		"tensors without end":            tensors(25000),
		"layers without end":             layers.file(),
	} {
		data := f.image().b
		var before, after goruntime.MemStats
		goruntime.ReadMemStats(&before)
		begun := time.Now()
		r, err := verify.Reader(context.Background(), name, bytes.NewReader(data), int64(len(data)), verify.Options{Workers: 1, Unsigned: true}, nil)
		seconds := time.Since(begun).Seconds()
		goruntime.ReadMemStats(&after)
		require.NoError(t, err, name)
		require.False(t, r.OK(), name)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(128<<20), name)
		t.Logf("%-32s %.2f s", name, seconds)
		require.Less(t, seconds, 4.0, "%s: a twentieth of this is usual, a quadratic loop takes more", name)
	}
}

func plainWith(old, new string) *file {
	s := small()
	s.edits = []string{old, new}
	return s.file()
}

package runtime_test

import (
	"context"
	"fmt"
	"log"

	"github.com/tritter-ai/tritter/demo"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/runtime"
	"github.com/tritter-ai/tritter/tokenizer"
)

// Two requests generate together; the second joins when the first has begun. What
// each says does not depend on the other.
func ExampleBatch() {
	e, t := exampleEngine()
	defer e.Close()
	b := runtime.NewBatch(e)
	defer b.Close()
	texts := map[int][]int{}
	add := func(prompt string) {
		ids, err := t.Encode(prompt, tokenizer.EncodeOptions{AddSpecial: true, Modality: tokenizer.Code})
		if err != nil {
			log.Fatal(err)
		}
		if _, err := b.Add(runtime.Request{Tokens: ids, MaxNewTokens: 6, Sampling: runtime.Sampling{TopP: 1, RepetitionPenalty: 1}}); err != nil {
			log.Fatal(err)
		}
	}
	add("package main\n\nimport (\n")
	for step := 0; b.Len() > 0; step++ {
		if step == 2 {
			add("for i := 0; i < ")
		}
		events, err := b.Step(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		for _, ev := range events {
			if ev.Token >= 0 {
				texts[ev.ID] = append(texts[ev.ID], ev.Token)
			}
		}
	}
	for id := range 2 {
		text, err := t.Decode(texts[id], true)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d: %q\n", id, text)
	}
	// Output:
	// 0: "\t\"bytes\"\n\t\"fmt"
	// 1: "1; i++ {\n\t"
}

// A window of 64 positions and 4 sinks in an int4 cache: the text may grow past the
// model's context, and the memory does not.
func ExampleOptions_window() {
	f, err := format.OpenBytes(demo.Model())
	if err != nil {
		log.Fatal(err)
	}
	m, err := runtime.LoadModel(f)
	if err != nil {
		log.Fatal(err)
	}
	e, err := runtime.NewCPU(m, runtime.Options{KV: kernels.KVInt4, Window: 64, Sinks: 4})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	seq := e.NewSequence()
	for range 12 {
		if _, err := e.Forward(context.Background(), []runtime.Span{{Seq: seq, Tokens: make([]int, 100)}}); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println("the model's context:", m.Config.MaxPositionEmbeddings)
	fmt.Println("positions so far:", seq.Len())
	fmt.Println("cache at most:", e.Plan().Cache>>10, "KiB")
	// Output:
	// the model's context: 1024
	// positions so far: 1200
	// cache at most: 728 KiB
}

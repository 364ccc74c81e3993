package runtime_test

import (
	"context"
	"fmt"
	"log"

	"github.com/tritter-ai/tritter/demo"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/nearest"
	"github.com/tritter-ai/tritter/runtime"
	"github.com/tritter-ai/tritter/tokenizer"
)

// exampleEngine opens the embedded model.
func exampleEngine() (runtime.Engine, *tokenizer.Tokenizer) {
	f, err := format.OpenBytes(demo.Model())
	if err != nil {
		log.Fatal(err)
	}
	m, err := runtime.LoadModel(f)
	if err != nil {
		log.Fatal(err)
	}
	t, err := m.Tokenizer()
	if err != nil {
		log.Fatal(err)
	}
	e, err := runtime.NewCPU(m, runtime.Options{})
	if err != nil {
		log.Fatal(err)
	}
	return e, t
}

// The tokens nearest to the hidden state behind a prompt: what the model predicts,
// without its head.
func ExampleEmbeddingRounder() {
	e, t := exampleEngine()
	defer e.Close()
	ids, err := t.Encode("if err !=", tokenizer.EncodeOptions{AddSpecial: true, Modality: tokenizer.Code})
	if err != nil {
		log.Fatal(err)
	}
	state, err := runtime.Embed(context.Background(), e, ids, false)
	if err != nil {
		log.Fatal(err)
	}
	r, err := runtime.NewEmbeddingRounder(e, runtime.RounderOptions{Rounding: runtime.RoundKNN, Metric: nearest.Cosine, K: 3, Temperature: 0.1})
	if err != nil {
		log.Fatal(err)
	}
	near, err := r.Neighbours(state)
	if err != nil {
		log.Fatal(err)
	}
	for _, n := range near {
		token, _ := t.Token(n.Token)
		fmt.Printf("%q cosine %.3f weight %.3f\n", token, n.Value, n.Weight)
	}
	// Output:
	// "Ġnil" cosine 0.322 weight 0.620
	// "Ġ" cosine 0.208 weight 0.197
	// "Ġ\"\"" cosine 0.200 weight 0.182
}

// Generation that rounds to the nearest embedding, without and with a step in the
// space of embeddings before each token.
func ExampleGenerateLatent() {
	e, t := exampleEngine()
	defer e.Close()
	ids, err := t.Encode("func (b *Buffer) Write(", tokenizer.EncodeOptions{AddSpecial: true, Modality: tokenizer.Code})
	if err != nil {
		log.Fatal(err)
	}
	r, err := runtime.NewEmbeddingRounder(e, runtime.RounderOptions{Rounding: runtime.RoundKNN})
	if err != nil {
		log.Fatal(err)
	}
	for _, steps := range []int{0, 1} {
		var out []int
		request := runtime.LatentRequest{Request: runtime.Request{Tokens: ids, MaxNewTokens: 8, Sampling: runtime.DefaultSampling()}, Rounder: r, LatentSteps: steps}
		finish, err := runtime.GenerateLatent(context.Background(), e, request, func(id int) bool {
			out = append(out, id)
			return true
		})
		if err != nil {
			log.Fatal(err)
		}
		text, err := t.Decode(out, true)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d latent steps: %q (%s)\n", steps, text, finish)
	}
	// Output:
	// 0 latent steps: "rec []byte) (int, error" (length)
	// 1 latent steps: " []) {\n\treturn\n\treturn{}\n" (length)
}

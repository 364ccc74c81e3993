// Codebook writes a codebook of random vectors, to try tritter-convert --codebook:
//
//	go run ./internal/synth/codebook -kind image -codes 64 -patch 4 image.safetensors
//	go run ./internal/synth/codebook -kind audio -codes 64 -frame 160 -rate 16000 audio.safetensors
//	go run ./internal/synth/codebook -kind embedding -codes 64 -dim 128 hidden.safetensors
package main

import (
	"flag"
	"log"

	"github.com/tritter-ai/tritter/codebook"
	"github.com/tritter-ai/tritter/internal/synth"
)

func main() {
	log.SetFlags(0)
	kind := flag.String("kind", "image", "image, audio or embedding")
	codes := flag.Int("codes", 64, "vectors")
	patch := flag.Int("patch", 4, "image: pixels of a patch's side")
	frame := flag.Int("frame", 160, "audio: samples of a frame")
	rate := flag.Int("rate", 16000, "audio: samples a second")
	dim := flag.Int("dim", 128, "embedding: the model's hidden size")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("codebook: want the name of one file to write")
	}
	h := codebook.Header{Kind: codebook.Kind(*kind), Codes: *codes, Dim: *dim}
	switch h.Kind {
	case codebook.Image:
		h.Channels, h.PatchSize, h.Dim = 3, *patch, *patch**patch*3
	case codebook.Audio:
		h.Channels, h.FrameLength, h.SampleRate, h.Dim = 1, *frame, *rate, *frame
	case codebook.Embedding:
	default:
		log.Fatalf("codebook: -kind %s, want image, audio or embedding", *kind)
	}
	if err := synth.WriteCodebook(flag.Arg(0), h); err != nil {
		log.Fatal("codebook: ", err)
	}
}

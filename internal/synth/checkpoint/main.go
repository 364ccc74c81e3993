// Checkpoint writes a checkpoint of random weights, for benchmarks.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/internal/synth"
)

func main() {
	shape := flag.String("shape", "2B-4T", "2B-4T or 700M, with :N for N layers")
	storage := flag.String("storage", string(synth.Online), "online, multiply, divide or dense")
	dtype := flag.String("dtype", string(checkpoint.BF16), "BF16, F16 or F32")
	out := flag.String("o", "", "folder to write into")
	flag.Parse()
	if err := write(*out, *shape, synth.Storage(*storage), checkpoint.DType(*dtype)); err != nil {
		fmt.Fprintln(os.Stderr, "checkpoint:", err)
		os.Exit(1)
	}
}

func write(out, name string, storage synth.Storage, dtype checkpoint.DType) error {
	s, err := synth.ParseShape(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	return synth.Write(out, s, storage, dtype, 1)
}

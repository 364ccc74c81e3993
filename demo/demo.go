// Package demo holds the model that works without a download: a BitNet b1.58
// model of 15.7 M parameters that writes Go, trained on the Go standard library.
// testdata/demo has its checkpoint, its corpus and its training script.
package demo

import _ "embed"

//go:generate go run github.com/tritter-ai/tritter/cmd/tritter-convert ../testdata/demo -o demo.trit -q --generation modality=code --generation temperature=0.7 --generation top_p=0.9 --generation repetition_penalty=1.1

//go:embed demo.trit
var model []byte

// Model returns the model's .trit file. The bytes must not be changed.
func Model() []byte { return model }

package tokenizer_test

import (
	"fmt"
	"log"
	"os"

	"github.com/tritter-ai/tritter/tokenizer"
)

// Every string of bytes comes back as it was, and special tokens that are spelled
// in a text stay text.
func ExampleMultiModal() {
	data, err := os.ReadFile("../testdata/demo/tokenizer.json")
	if err != nil {
		log.Fatal(err)
	}
	vocabulary, err := tokenizer.Parse(data)
	if err != nil {
		log.Fatal(err)
	}
	t, err := tokenizer.NewMultiModal(vocabulary, tokenizer.MultiModalOptions{})
	if err != nil {
		log.Fatal(err)
	}
	ids, err := t.Encode("func <eos>\xff", tokenizer.Code, true)
	if err != nil {
		log.Fatal(err)
	}
	all, err := t.Decode(ids, false)
	if err != nil {
		log.Fatal(err)
	}
	text, err := t.Decode(ids, true)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ids)
	fmt.Printf("%q\n%q\n", all, text)
	_, err = t.Encode([]byte("\x89PNG"), tokenizer.Image, true)
	fmt.Println(err)
	// Output:
	// [1 5 352 465 76 416 37 195 2]
	// "<bos><code>func <eos>\xff<eos>"
	// "func <eos>\xff"
	// tokenizer: no codebook for modality image: the ids of this vocabulary stand for [text code]; tritter-convert --codebook FILE stores one
}

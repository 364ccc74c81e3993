package model_test

import (
	"fmt"
	"log"

	"github.com/tritter-ai/tritter/model"
)

// The 7B model with its whole context fits a card of 16 GB.
func ExampleConfig_Plan() {
	c, err := model.Preset("7B")
	if err != nil {
		log.Fatal(err)
	}
	p, err := c.Plan(model.PlanOptions{Context: 131072, KV: model.KVInt4})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("weights %.2f GB, cache %.2f GB, total %.2f GB\n", float64(p.Weights)/1e9, float64(p.Cache)/1e9, float64(p.Total)/1e9)
	fmt.Println("fits 16 GB:", p.Fits(16e9))
	// Output:
	// weights 2.50 GB, cache 4.45 GB, total 6.97 GB
	// fits 16 GB: true
}

func ExampleParseTritterConfig() {
	t, _, err := model.ParseTritterConfig([]byte(`{"model_size": "7B", "num_kv_heads": 8, "intermediate_size": 11008}`))
	if err != nil {
		log.Fatal(err)
	}
	c, err := t.Config()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.HiddenSize, c.NumLayers, c.NumHeads, c.NumKVHeads, c.HeadDim, t.KV())
	_, _, err = model.ParseTritterConfig([]byte(`{"hidden_size": 2050}`))
	fmt.Println(err)
	// Output:
	// 4096 32 32 8 128 int4
	// hidden_size (2050) must be divisible by num_heads (16): the remainder is 2; use hidden_size 2048 or 2064, or give head_dim
}

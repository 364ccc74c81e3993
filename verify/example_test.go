package verify_test

import (
	"context"
	"fmt"

	"github.com/tritter-ai/tritter/verify"
)

// Verify the model that is part of the program.
func ExampleFile() {
	report, err := verify.File(context.Background(), "../demo/demo.trit", verify.Options{Tensors: true}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range report.Findings {
		fmt.Println(f.Message)
	}
	q := report.Tensors[2]
	minus, zero, plus := q.Trits.Share()
	fmt.Printf("%v %s: %.2f %.2f %.2f\n", report.OK(), q.Name, minus, zero, plus)
	// Output: true layers.0.q.weight: 0.30 0.39 0.31
}

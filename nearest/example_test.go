package nearest_test

import (
	"encoding/binary"
	"fmt"
	"log"
	"math"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/nearest"
)

func ExampleTable_Search() {
	var data []byte
	for _, v := range []float32{1, 0, 0, 2, 3, 3} {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	rows := &kernels.Dense{Rows: 3, Cols: 2, Type: kernels.F32, Data: data}
	table, err := nearest.New(rows, cpu.New(), nearest.Threads(2, nil))
	if err != nil {
		log.Fatal(err)
	}
	for _, metric := range []nearest.Metric{nearest.Euclidean, nearest.Cosine} {
		found, err := table.Search([]float32{1, 1}, metric, 2)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(metric, found)
	}
	// Output:
	// euclidean [{0 1} {1 2}]
	// cosine [{2 1} {0 0.70710677}]
}

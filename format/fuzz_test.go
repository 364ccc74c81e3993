package format

import (
	"bytes"
	"context"
	"testing"
)

// FuzzOpen opens and checks whatever bytes; with rehashed set, the header's
// SHA-256 is made right first, so that the rules behind it are reached.
func FuzzOpen(f *testing.F) {
	good := everyFile(f)
	f.Add(good, false)
	f.Add(good, true)
	f.Add(exampleFile(f), true)
	f.Add(good[:PreludeSize], true)
	f.Add(good[:len(good)-1], false)
	for _, at := range []int64{preMajor, preTensors, preRequired, rec(0, 0), rec(3, recDim0), rec(4, recEncoding), sec(0, secLength)} {
		b := bytes.Clone(good)
		b[at] ^= 1
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, rehashed bool) {
		if rehashed {
			data = rehash(bytes.Clone(data))
		}
		file, err := OpenBytes(data)
		if err != nil {
			if ClassOf(err) == "" {
				t.Fatalf("an error without a class: %v", err)
			}
			return
		}
		h := file.Header()
		// What opened encodes to the same bytes: no field is read loosely.
		if len(h.Required)+len(h.Optional) == 0 {
			again := *h
			if !bytes.Equal(again.encode(), data[:h.HeaderLength]) {
				t.Fatal("the header has a second encoding")
			}
		}
		found := 0
		if err := file.Check(context.Background(), 1, func(p Problem) {
			found++
			if p.Err.Offset < h.HeaderLength || p.Last < p.Err.Offset || p.Last > h.FileLength || p.Count < 1 {
				t.Fatalf("a problem out of place: %v", p)
			}
		}, nil); err != nil {
			t.Fatalf("checking bytes in memory: %v", err)
		}
		for i := range h.Tensors {
			tensor, ok := file.Tensor(h.Tensors[i].Name)
			if !ok {
				t.Fatal("a tensor is not found by its name")
			}
			if _, err := tensor.Scales(); err != nil && found == 0 {
				t.Fatalf("the check missed %v", err)
			}
		}
	})
}

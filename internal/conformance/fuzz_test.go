package conformance

import (
	"bytes"
	"context"
	"testing"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/testdata/vectors"
	"github.com/tritter-ai/tritter/verify"
)

// FuzzVerify verifies arbitrary bytes, as they are or with their hashes made right:
// everything that a file can say is read. What is accepted has one form: its
// content, written by the builder of this package, gives its bytes.
func FuzzVerify(f *testing.F) {
	list, err := vectors.Container()
	if err != nil {
		f.Fatal(err)
	}
	for i, v := range list {
		if v.Expect == vectors.Success || i%8 == 0 {
			f.Add(v.File, false)
		}
		if v.Stage != vectors.Opening && i%3 == 0 {
			f.Add(v.File, true)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, rehashed bool) {
		if rehashed {
			data = bytes.Clone(data)
			Rehash(data, true)
		}
		r, err := verify.Reader(context.Background(), "fuzz", bytes.NewReader(data), int64(len(data)), verify.Options{Workers: 1, Unsigned: true}, nil)
		if err != nil {
			if format.ClassOf(err) != format.ClassUnsupported {
				t.Fatalf("bytes in memory cannot be read: %v", err)
			}
			return
		}
		if !r.OK() {
			return
		}
		file, err := format.OpenBytes(data)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Rebuild(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, data) {
			t.Fatal("a second form of the same content is accepted")
		}
	})
}

// FuzzVector reads arbitrary vectors: what is accepted encodes to the same bytes
// when its keys are in order.
func FuzzVector(f *testing.F) {
	f.Add([]byte("expect: header\nstage: opening\ncomment: x\n\n\x89TRIT"))
	f.Add([]byte("expect: success\nreleased: 00\ncomment: x\n\n"))
	f.Add([]byte("expect: success\nexpect: success\n\n"))
	f.Add([]byte("colour: red\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := vectors.Parse("fuzz", data)
		if err != nil {
			return
		}
		again, err := vectors.Parse("fuzz", v.Encode())
		if err != nil || again.Expect != v.Expect || again.Stage != v.Stage || again.Released != v.Released || again.Comment != v.Comment || !bytes.Equal(again.File, v.File) {
			t.Fatalf("%+v reads as %+v, %v", v, again, err)
		}
	})
}

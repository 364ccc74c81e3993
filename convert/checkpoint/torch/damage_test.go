package torch

import (
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// contents returns what a file holds, tensor by tensor.
func contents(r *Reader) (map[string]string, error) {
	out := map[string]string{}
	for _, tn := range r.Tensors() {
		data, err := io.ReadAll(io.NewSectionReader(tn, 0, tn.Size))
		if err != nil {
			return nil, err
		}
		out[tn.Name] = string(tn.DType) + string(data)
	}
	return out, nil
}

// samples are good files of both layouts.
func samples() map[string][]byte {
	body := dict(str("model"), dict(str("a"), floats("0", 2), str("b"), untyped("1", 6, "uint16", 3)), str("config"), name("my", "C")+")\x81"+dict(str("n"), num(1))+"b")
	return map[string][]byte{
		"zip":    fileOf(body, data("0", 8), data("1", 6), zipRecord{name: "m/version", data: "3\n"}),
		"legacy": legacyOf(littleSystem, dict(str("a"), floats("0", 2)), legacyStorage{"0", 2, 8}),
	}
}

// A file that ends early is refused wherever it ends.
func TestEveryCut(t *testing.T) {
	for name, file := range samples() {
		for n := range file {
			_, err := openBytes(file[:n])
			require.Error(t, err, "%s, %d of %d bytes", name, n, len(file))
			requireGoodError(t, err)
		}
	}
}

// An archive with one byte changed is refused, or nothing of its tensors has
// changed: checksums cover everything but the dates and the padding.
func TestEveryFlip(t *testing.T) {
	file := samples()["zip"]
	want, err := contents(requireOpens(t, file))
	require.NoError(t, err)
	refused := 0
	for i := range file {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			bad := slices.Clone(file)
			bad[i] ^= flip
			r, err := openBytes(bad)
			var got map[string]string
			if err == nil {
				got, err = contents(r)
			}
			if err != nil {
				var format *tensor.FormatError
				var unsupported *tensor.UnsupportedError
				require.True(t, errors.As(err, &format) || errors.As(err, &unsupported), "%v", err)
				refused++
				continue
			}
			require.Equal(t, want, got, "byte %d ^ %#x", i, flip)
		}
	}
	require.Greater(t, refused, 3*len(file)/2)
}

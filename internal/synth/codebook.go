package synth

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"

	"github.com/tritter-ai/tritter/codebook"
	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/convert/checkpoint/safetensors"
)

// WriteCodebook writes a codebook of random vectors as a safetensors file, as
// tritter-convert --codebook takes it. Fields of h that are zero, FirstID too, are
// left out of its metadata. Elements are f32 and lie on the levels of a pixel of 8
// bits or, for the other kinds, on multiples of 2^-7 in [-1, 1], so that files show
// them exactly. The same header gives the same bytes.
func WriteCodebook(path string, h codebook.Header) error {
	metadata := map[string]string{"kind": string(h.Kind)}
	for key, v := range map[string]int{"channels": h.Channels, "first_id": h.FirstID, "frame_length": h.FrameLength, "patch_size": h.PatchSize, "sample_rate": h.SampleRate} {
		if v != 0 {
			metadata[key] = strconv.Itoa(v)
		}
	}
	if h.Range != "" {
		metadata["range"] = string(h.Range)
	}
	rng := rand.New(rand.NewPCG(uint64(h.Codes), uint64(h.Dim)))
	var data []byte
	for range h.Codes * h.Dim {
		v := float32(rng.IntN(257)-128) / 128
		if h.Kind == codebook.Image {
			if v = float32(rng.IntN(256)) / 255; h.Range == codebook.Signed {
				v = float32(2*v) - 1
			}
		}
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	var out bytes.Buffer
	err := safetensors.Write(&out, []safetensors.WriteTensor{{Name: "codebook", DType: checkpoint.F32, Shape: []int64{int64(h.Codes), int64(h.Dim)}, Data: bytes.NewReader(data)}}, metadata)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}

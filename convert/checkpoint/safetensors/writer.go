package safetensors

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// A WriteTensor is a tensor to be written.
type WriteTensor struct {
	Name  string
	DType tensor.DType
	Shape []int64
	Data  io.Reader // exactly the tensor's bytes, row-major and little-endian
}

// Write writes a safetensors file to w. The same tensors, whatever their
// order, and the same metadata give the same bytes: header keys are sorted,
// the header is padded with spaces to a multiple of 8, and the data is laid
// out by element size, widest first, then by name, so that every tensor is
// aligned to its elements. It reads each Data once and refuses what a Reader
// would refuse, and data that is shorter or longer than its shape; then part
// of the file may have been written.
func Write(w io.Writer, tensors []WriteTensor, metadata map[string]string) error {
	order := slices.Clone(tensors)
	slices.SortFunc(order, func(a, b WriteTensor) int {
		return cmp.Or(cmp.Compare(b.DType.Size(), a.DType.Size()), cmp.Compare(a.Name, b.Name))
	})
	text, sizes, err := buildHeader(order, metadata)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	// bufio keeps the first error and Flush returns it.
	out.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(text))))
	out.Write(text)
	for i, t := range order {
		n, err := io.CopyN(out, t.Data, sizes[i])
		if err != nil {
			return fmt.Errorf("safetensors: writing tensor %s: got %d bytes of data, want %d: %w", tensor.Quote(t.Name), n, sizes[i], err)
		}
		if n, err := io.ReadFull(t.Data, make([]byte, 1)); n > 0 {
			return fmt.Errorf("safetensors: writing tensor %s: got more than %d bytes of data, its size", tensor.Quote(t.Name), sizes[i])
		} else if err != io.EOF {
			return fmt.Errorf("safetensors: writing tensor %s: %w", tensor.Quote(t.Name), err)
		}
	}
	return out.Flush()
}

// buildHeader returns the padded header for tensors laid out in the order
// given, and the size of each.
func buildHeader(order []WriteTensor, metadata map[string]string) ([]byte, []int64, error) {
	type description struct {
		DType   tensor.DType `json:"dtype"`
		Shape   []int64      `json:"shape"`
		Offsets [2]int64     `json:"data_offsets"`
	}
	// encoding/json writes the keys of a map in sorted order.
	top := make(map[string]any, len(order)+1)
	sizes := make([]int64, len(order))
	var end int64
	for i, t := range order {
		size, ok := sizeOf(t.DType, t.Shape)
		for _, d := range t.Shape {
			ok = ok && d >= 0
		}
		if !ok || t.DType.Size() == 0 || len(t.Shape) > MaxRank || end+size < end {
			return nil, nil, fmt.Errorf("safetensors: tensor %s: got shape %v of %s, want at most %d dimensions, none negative, of one of %s",
				tensor.Quote(t.Name), t.Shape, tensor.Quote(string(t.DType)), MaxRank, tensor.DTypes)
		}
		if got, want := badName(t.Name); got != "" {
			return nil, nil, fmt.Errorf("safetensors: tensor name: got %s, want %s", got, want)
		}
		if _, dup := top[t.Name]; dup || t.Name == metadataKey || len(t.Name) > MaxName {
			return nil, nil, fmt.Errorf("safetensors: tensor name: got %s, want each name once, at most %d bytes long, not %s",
				tensor.Quote(t.Name), MaxName, metadataKey)
		}
		top[t.Name] = description{t.DType, append([]int64{}, t.Shape...), [2]int64{end, end + size}}
		sizes[i] = size
		end += size
	}
	for k, v := range metadata {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return nil, nil, fmt.Errorf("safetensors: metadata: got %s: %s, want valid UTF-8", tensor.Quote(k), tensor.Quote(v))
		}
	}
	if len(metadata) > 0 {
		top[metadataKey] = metadata
	}
	text, err := json.Marshal(top)
	if err != nil {
		return nil, nil, fmt.Errorf("safetensors: header: %w", err)
	}
	text = append(text, bytes.Repeat([]byte{' '}, -len(text)&7)...)
	if len(text) > MaxHeader || len(order) > MaxTensors || len(metadata) > MaxMetadata {
		return nil, nil, fmt.Errorf("safetensors: got %d tensors, %d metadata keys and a header of %d bytes, want at most %d, %d and %d",
			len(order), len(metadata), len(text), MaxTensors, MaxMetadata, MaxHeader)
	}
	return text, sizes, nil
}

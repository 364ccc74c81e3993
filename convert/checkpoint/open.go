package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// Limits on the files beside the weights, in bytes; a larger one is refused as
// unsupported.
const (
	MaxConfig    = 16 << 20 // config.json, generation_config.json, tokenizer_config.json
	MaxTokenizer = 64 << 20 // tokenizer.json, tokenizer.model
)

// Open opens the checkpoint at path.
//
// A folder must hold exactly one set of weights: a *.safetensors file, a
// PyTorch file (*.bin, *.pt, *.pth), a GGUF file (*.gguf), or the index of shards of either kind
// (*.safetensors.index.json, *.bin.index.json) with its shards. A folder with
// several is refused with their names; pass the file wanted instead. The
// leftovers of an interrupted download are refused.
//
// A file must be of one of the kinds above. In either case the configuration
// and tokenizer are those in the same folder; that one is missing is not an
// error here. A GGUF file is a checkpoint by itself: what lies beside it is not
// read.
//
// Damaged files give a [FormatError].
func Open(path string) (*Dir, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{Path: path}
	if info.IsDir() {
		d.Weights, err = openFolder(path)
	} else {
		d.Path = filepath.Dir(path)
		d.Weights, err = openFile(path)
	}
	if err != nil {
		return nil, err
	}
	if _, whole := d.Weights.(*gguf.Reader); whole {
		return d, nil
	}
	for _, f := range []struct {
		name  string
		limit int64
		to    *[]byte
	}{
		{"config.json", MaxConfig, &d.Config},
		{"generation_config.json", MaxConfig, &d.GenerationConfig},
		{"tokenizer.json", MaxTokenizer, &d.Tokenizer},
		{"tokenizer_config.json", MaxConfig, &d.TokenizerConfig},
		{"chat_template.jinja", MaxConfig, &d.ChatTemplate},
		{"tokenizer.model", MaxTokenizer, &d.TokenizerModel},
	} {
		if *f.to, err = readBeside(d.Path, f.name, f.limit); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	return d, nil
}

// readBeside returns the content of dir/name, or nil when there is no such
// file. It reads little more than limit bytes.
func readBeside(dir, name string, limit int64) ([]byte, error) {
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// Checked before opening, because opening a pipe can block for ever.
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: got %s, want a regular file", path, info.Mode())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, &UnsupportedError{
			File: name, Offset: tensor.NoOffset, Field: "file length",
			Got: fmt.Sprintf("%d bytes", max(info.Size(), limit+1)), Want: fmt.Sprintf("at most %d", limit),
		}
	}
	if err := tensor.Placeholder(name, data[:min(len(data), 64)]); err != nil {
		return nil, err
	}
	return data, nil
}

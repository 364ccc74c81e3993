// Package checkpoint opens a trained model as its framework left it: a folder
// or a file of named tensors, with the configuration and the tokenizer that
// lie beside them.
//
// [Open] finds the weights and refuses to guess: a folder with several sets of
// weights, the remains of a download, or a container that cannot be read is an
// error that says what to do. Tensors are opened lazily; their bytes are read
// only when asked for, through [Tensor.ReadAt].
//
// Readers of the containers are packages of their own:
// convert/checkpoint/safetensors and convert/checkpoint/torch.
package checkpoint

import (
	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// A DType is an element type, spelled as safetensors spells it: BOOL, U8, I8,
// F8_E4M3, F8_E5M2, I16, U16, F16, BF16, I32, U32, F32, I64, U64 or F64. Its
// Size method gives the bytes of an element.
type DType = tensor.DType

// The element types.
const (
	Bool   = tensor.Bool
	U8     = tensor.U8
	I8     = tensor.I8
	F8E4M3 = tensor.F8E4M3
	F8E5M2 = tensor.F8E5M2
	I16    = tensor.I16
	U16    = tensor.U16
	F16    = tensor.F16
	BF16   = tensor.BF16
	I32    = tensor.I32
	U32    = tensor.U32
	F32    = tensor.F32
	I64    = tensor.I64
	U64    = tensor.U64
	F64    = tensor.F64
)

// A Tensor is a named array that still lies in its file; see [tensor.Tensor].
type Tensor = tensor.Tensor

// A Source lists the tensors of an opened checkpoint; see [tensor.Source].
type Source = tensor.Source

// A FormatError says that a file is wrong: damaged, incomplete or hostile.
type FormatError = tensor.FormatError

// An UnsupportedError says that a file may be in order but is not supported.
type UnsupportedError = tensor.UnsupportedError

// A Dir is an opened checkpoint with the files that lie beside its weights.
// Close it when its tensors are no longer needed.
type Dir struct {
	// Path is the folder that holds the files.
	Path string
	// Weights holds the tensors.
	Weights Source
	// Config, GenerationConfig, Tokenizer, TokenizerConfig, ChatTemplate
	// and TokenizerModel are the bytes of config.json, generation_config.json,
	// tokenizer.json, tokenizer_config.json, chat_template.jinja and
	// tokenizer.model, verbatim; nil when the file is absent.
	Config, GenerationConfig, Tokenizer, TokenizerConfig, ChatTemplate, TokenizerModel []byte
}

// Close closes the weights; the other fields stay valid.
func (d *Dir) Close() error { return d.Weights.Close() }

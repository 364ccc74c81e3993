package format

// Magic is the first eight bytes of every .trit file (spec/trit-v1.md, 2): a
// byte with the high bit set, "TRIT", and CR LF SUB, which a transfer in text
// mode would change.
const Magic = "\x89TRIT\r\n\x1a"

// The version that this package writes. It reads every minor version of Major
// whose required features it knows.
const (
	Major = 1
	Minor = 0
)

// Sizes of the fixed parts, in bytes (spec/trit-v1.md, 2 to 4).
const (
	PreludeSize       = 384
	TensorRecordSize  = 256
	SectionRecordSize = 128
	Align             = 256 // every extent, and the header, is padded to this
)

// Tiles of the ternary encodings (spec/trit-v1.md, 5).
const (
	TileRows       = 4
	TileCols       = 128
	Trit2TileBytes = 128
	Trit3TileBytes = 104
)

// Limits (spec/trit-v1.md, 13). A file beyond one of them is malformed.
const (
	MaxRank       = 2
	MaxDim        = 1<<31 - 1
	MaxTensors    = 65536
	MaxName       = 128 // bytes of a tensor's name
	MaxSections   = 32
	MaxSection    = 256 << 20 // bytes of one section
	MaxFeatures   = 8         // of each kind
	MaxFeature    = 16        // bytes of a feature's name
	MaxSectionKey = 32        // bytes of a section's name
	MaxJSONDepth  = 4         // nested objects and arrays
)

// Names of the sections that version 1.0 defines.
const (
	SectionConfig     = "config"
	SectionGeneration = "generation"
	SectionTokenizer  = "tokenizer"
	SectionChat       = "chat-template"
	SectionProvenance = "provenance"
	SectionSelfTest   = "self-test"

	SectionCodebookAudio     = "codebook-audio"
	SectionCodebookEmbedding = "codebook-embedding"
	SectionCodebookImage     = "codebook-image"
)

// isJSONSection reports whether the section's content is canonical JSON; the
// tokenizer is verbatim, and of an unknown section nothing is known.
func isJSONSection(name string) bool {
	switch name {
	case SectionConfig, SectionGeneration, SectionProvenance, SectionSelfTest:
		return true
	}
	return false
}

// alignUp returns the next multiple of Align at or above n.
func alignUp(n int64) int64 { return (n + Align - 1) / Align * Align }

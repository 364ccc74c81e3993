package conformance

import (
	"math"

	"github.com/tritter-ai/tritter/testdata/vectors"
)

// imageJSON, audioJSON and embeddingJSON are headers of codebooks that fit the
// model of room.
const (
	imageJSON     = `{"channels":1,"codes":2,"dim":4,"dtype":"f32","first_id":8,"kind":"image","patch_size":2,"range":"unit"}`
	audioJSON     = `{"channels":2,"codes":3,"dim":4,"dtype":"bf16","first_id":11,"frame_length":2,"kind":"audio","sample_rate":8000}`
	embeddingJSON = `{"codes":4,"dim":2,"dtype":"f16","first_id":0,"kind":"embedding"}`
)

// room is a model with a vocabulary that has ids for codebooks.
func room() *file {
	s := small()
	s.vocab = 20
	return s.file()
}

// codebook lays a codebook out: its header, and elements of a width.
func codebook(text string, n, width int, element uint32) string {
	b := le.AppendUint64(nil, uint64(len(text)))
	b = append(b, text...)
	b = append(b, make([]byte, (len(b)+63)/64*64-len(b))...)
	for range n {
		b = append(b, le.AppendUint32(nil, element)[4-width:]...)
	}
	return string(b)
}

func codebooks() []generator {
	one := math.Float32bits(1)
	image, audio, embedding := codebook(imageJSON, 8, 4, one), codebook(audioJSON, 12, 2, one), codebook(embeddingJSON, 8, 2, 0x3c00<<16)
	list := []generator{
		accepted("codebooks", "a codebook of each kind, in each dtype", room().with("codebook-image", image).with("codebook-audio", audio).with("codebook-embedding", embedding), "codebook", "codebook-ids", "codebook-keys"),
	}
	add := func(name, stage, comment, data string, rules ...string) {
		list = append(list, refused("codebook-"+name, stage, "config", comment, room().with("codebook-image", data).image().b, rules...))
	}
	text := func(name, comment, old, new string, rules ...string) {
		add(name, vectors.Content, comment, codebook(edit(imageJSON, old, new), 8, 4, one), rules...)
	}
	text("key-missing", "without a key that an image has", `,"range":"unit"`, ``, "codebook-keys")
	text("key-of-audio", "a key of another kind", `"kind"`, `"frame_length":2,"kind"`, "codebook-keys")
	text("kind", "audio in the section of images", `"image"`, `"audio"`, "codebook")
	text("dim", "a dim that is not patch_size x patch_size x channels", `"patch_size":2`, `"patch_size":3`, "codebook")
	text("codes-0", "no codes", `"codes":2`, `"codes":0`, "codebook")
	text("ids", "ids beyond the vocabulary", `"first_id":8`, `"first_id":19`, "codebook-ids")
	text("first-id", "an id below 8", `"first_id":8`, `"first_id":7`, "codebook-overlap")
	text("header", "a header that is not canonical", `"codes":2`, `"codes": 2`, "codebook")
	add("cut", vectors.Content, "half of a vector is missing", image[:len(image)-8], "codebook")
	add("padding", vectors.Content, "a byte between header and vectors", image[:120]+"\x01"+image[121:], "codebook")
	add("infinity", vectors.Content, "vectors of infinities", codebook(imageJSON, 8, 4, 0x7f800000), "codebook")
	add("header-length", vectors.Content, "a header of 2^64 - 1 bytes", "\xff\xff\xff\xff\xff\xff\xff\xff"+image[8:], "codebook", "overflow")
	list = append(list, refused("codebook-overlap", vectors.Content, "config", "ids that image and audio both have",
		room().with("codebook-image", image).with("codebook-audio", codebook(edit(audioJSON, `"first_id":11`, `"first_id":10`), 12, 2, one)).image().b, "codebook-overlap"))
	return list
}

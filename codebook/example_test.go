package codebook_test

import (
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"log"
	"math"

	"github.com/tritter-ai/tritter/codebook"
)

// A codebook of four grey squares, from black to white, whose ids begin at 300.
func Example() {
	var vectors []byte
	for _, grey := range []float32{0, 1. / 3, 2. / 3, 1} {
		for range 2 * 2 {
			vectors = binary.LittleEndian.AppendUint32(vectors, math.Float32bits(grey))
		}
	}
	book, err := codebook.New(codebook.Header{Kind: codebook.Image, Channels: 1, PatchSize: 2, Range: codebook.Unit, Codes: 4, Dim: 4, DType: "f32", FirstID: 300}, vectors)
	if err != nil {
		log.Fatal(err)
	}
	ramp := image.NewGray(image.Rect(0, 0, 8, 2))
	for i := range ramp.Pix {
		ramp.SetGray(i%8, i/8, color.Gray{Y: uint8(i % 8 * 36)})
	}
	ids, err := book.Encode(ramp)
	if err != nil {
		log.Fatal(err)
	}
	content, err := book.Decode(ids)
	if err != nil {
		log.Fatal(err)
	}
	img := content.(image.Image)
	fmt.Println(ids, img.Bounds().Size())
	for x := range 8 {
		fmt.Print(color.GrayModel.Convert(img.At(x, 0)).(color.Gray).Y, " ")
	}
	// Output:
	// [300 301 302 303 304] (8,2)
	// 0 0 85 85 170 170 255 255
}

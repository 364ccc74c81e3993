package codebook

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"slices"
)

// MaxPixels bounds the size of an image, read or made.
const MaxPixels = 1 << 25

// ReadImage decodes a PNG or JPEG file. Its size is checked before its pixels are
// decoded. The error is a *FormatError or an *UnsupportedError.
func ReadImage(data []byte) (image.Image, error) {
	var kind string
	var config func() (image.Config, error)
	var decode func() (image.Image, error)
	switch {
	case bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")):
		kind = "PNG"
		config = func() (image.Config, error) { return png.DecodeConfig(bytes.NewReader(data)) }
		decode = func() (image.Image, error) { return png.Decode(bytes.NewReader(data)) }
	case bytes.HasPrefix(data, []byte("\xff\xd8\xff")):
		kind = "JPEG"
		config = func() (image.Config, error) { return jpeg.DecodeConfig(bytes.NewReader(data)) }
		decode = func() (image.Image, error) { return jpeg.Decode(bytes.NewReader(data)) }
	default:
		return nil, &UnsupportedError{Field: "image", Got: fmt.Sprintf("a file that begins with %q", data[:min(len(data), 8)]), Want: "PNG or JPEG"}
	}
	c, err := config()
	if err != nil {
		return nil, imageError(kind, err)
	}
	if c.Width < 1 || c.Height < 1 {
		return nil, &FormatError{Field: kind, Got: fmt.Sprintf("%d x %d pixels", c.Width, c.Height), Want: "at least one pixel"}
	}
	if int64(c.Width)*int64(c.Height) > MaxPixels {
		return nil, &UnsupportedError{Field: kind, Got: fmt.Sprintf("%d x %d pixels", c.Width, c.Height), Want: fmt.Sprintf("at most %d pixels; make the image smaller", MaxPixels)}
	}
	img, err := decode()
	if err != nil {
		return nil, imageError(kind, err)
	}
	return img, nil
}

func imageError(kind string, err error) error {
	var pngError png.UnsupportedError
	var jpegError jpeg.UnsupportedError
	if errors.As(err, &pngError) || errors.As(err, &jpegError) {
		return &UnsupportedError{Field: kind, Got: err.Error(), Want: "a kind that Go's image packages decode"}
	}
	return &FormatError{Field: kind, Got: "refused: " + err.Error(), Want: "an undamaged file"}
}

// encodeImage cuts an image into rows of patches. The last pixels of a row and
// the last row are repeated up to whole patches.
func (c *Codebook) encodeImage(content any) ([]int, error) {
	var img image.Image
	switch v := content.(type) {
	case image.Image:
		img = v
	case []byte:
		var err error
		if img, err = ReadImage(v); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("an image is a %T, want an image.Image or the []byte of a PNG or JPEG file", content)
	}
	b, p := img.Bounds(), c.PatchSize
	if b.Empty() || int64(b.Dx())*int64(b.Dy()) > MaxPixels {
		return nil, fmt.Errorf("an image of %d x %d pixels, want at least 1 and at most %d pixels", b.Dx(), b.Dy(), MaxPixels)
	}
	columns, rows := (b.Dx()+p-1)/p, (b.Dy()+p-1)/p
	ids := make([]int, 0, rows*(columns+1))
	x := make([]float32, columns*c.Dim)
	for row := range rows {
		at := 0
		for column := range columns {
			for i := range p * p {
				pixel := img.At(min(b.Min.X+column*p+i%p, b.Max.X-1), min(b.Min.Y+row*p+i/p, b.Max.Y-1))
				at += c.putPixel(x[at:], pixel)
			}
		}
		codes, err := c.assign(x)
		if err != nil {
			return nil, err
		}
		ids = append(append(ids, codes...), c.Header.FirstID+c.Codes)
	}
	return ids, nil
}

// putPixel writes the channels of a pixel, over black where it is transparent,
// and returns how many there are.
func (c *Codebook) putPixel(dst []float32, pixel color.Color) int {
	if c.Channels == 1 {
		dst[0] = c.level(uint32(color.Gray16Model.Convert(pixel).(color.Gray16).Y))
		return 1
	}
	r, g, b, _ := pixel.RGBA()
	dst[0], dst[1], dst[2] = c.level(r), c.level(g), c.level(b)
	return 3
}

// level is the number that stands for a brightness of 0 to 65,535.
func (c *Codebook) level(v uint32) float32 {
	u := float32(v) / 65535
	if c.Range == Signed {
		return float32(2*u) - 1
	}
	return u
}

// brightness is the inverse of level, in 8 bits.
func (c *Codebook) brightness(v float32) uint8 {
	if c.Range == Signed {
		v = (v + 1) / 2
	}
	return uint8(math.RoundToEven(float64(float32(min(max(v, 0), 1) * 255))))
}

// decodeImage places the patches of codes, of which the last, Codes, ends a row.
// Patches that a row lacks are black.
func (c *Codebook) decodeImage(codes []int) (image.Image, error) {
	var rows [][]int
	for len(codes) > 0 {
		n := slices.Index(codes, c.Codes)
		if n < 0 {
			rows = append(rows, codes)
			break
		}
		rows, codes = append(rows, codes[:n]), codes[n+1:]
	}
	columns := 0
	for _, row := range rows {
		columns = max(columns, len(row))
	}
	p := c.PatchSize
	if columns == 0 {
		return nil, errors.New("no patch among the ids, want at least one")
	}
	if int64(columns)*int64(p) > MaxPixels/(int64(len(rows))*int64(p)) {
		return nil, fmt.Errorf("%d x %d patches of %d x %d pixels, want at most %d pixels", columns, len(rows), p, p, MaxPixels)
	}
	img := image.NewNRGBA(image.Rect(0, 0, columns*p, len(rows)*p))
	for i := 3; i < len(img.Pix); i += 4 {
		img.Pix[i] = 0xff
	}
	patch := make([]float32, c.Dim)
	for y, row := range rows {
		for x, code := range row {
			c.vector(patch, code)
			for i := range p * p {
				at := img.PixOffset(x*p+i%p, y*p+i/p)
				for channel := range 3 {
					img.Pix[at+channel] = c.brightness(patch[i*c.Channels+min(channel, c.Channels-1)])
				}
			}
		}
	}
	return img, nil
}

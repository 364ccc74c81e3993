package torch

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// tensor returns the view as a tensor, after holding it against its storage.
func (v *view) tensor(d *decoder, name string) (*tensor.Tensor, error) {
	fail := func(part, got, want string) error {
		return d.wrong(d.base, d.where+": tensor "+tensor.Quote(name)+": "+part, got, want, "")
	}
	limit := func(part, got, want, hint string) error {
		return d.limit(d.base, d.where+": tensor "+tensor.Quote(name)+": "+part, got, want, hint)
	}
	item := int64(v.dtype.id.Size())
	if item == 0 {
		return nil, limit("dtype", "torch."+v.dtype.name, tensor.DTypes, "")
	}
	if len(v.shape) != len(v.stride) {
		return nil, fail("shape and strides", fmt.Sprintf("%v and %v", v.shape, v.stride), "as many of each")
	}
	if v.storage.bytes%item != 0 {
		return nil, fail("storage", fmt.Sprintf("%d bytes", v.storage.bytes), fmt.Sprintf("a multiple of %d", item))
	}
	if v.offset < 0 {
		return nil, fail("storage offset", fmt.Sprint(v.offset), "0 or more")
	}
	have := v.storage.bytes / item
	numel, last, fits := int64(1), uint64(v.offset), true
	empty := slices.Contains(v.shape, 0)
	for i, n := range v.shape {
		if n < 0 || v.stride[i] < 0 {
			return nil, fail("shape and strides", fmt.Sprintf("%v and %v", v.shape, v.stride), "no negative number")
		}
		if empty {
			numel = 0
			continue
		}
		hi, lo := bits.Mul64(uint64(numel), uint64(n))
		if hi != 0 || lo > math.MaxInt64/8 {
			return nil, fail("shape", fmt.Sprint(v.shape), "fewer elements than 2^60")
		}
		numel = int64(lo)
		hi, lo = bits.Mul64(uint64(n-1), uint64(v.stride[i]))
		sum, carry := bits.Add64(last, lo, 0)
		fits = fits && hi == 0 && carry == 0
		last = sum
	}
	if !empty && (!fits || last >= uint64(have)) || empty && v.offset > have {
		return nil, fail("view", fmt.Sprintf("shape %v, strides %v from element %d", v.shape, v.stride, v.offset),
			fmt.Sprintf("one inside its storage %s of %d elements", tensor.Quote(v.storage.key), have))
	}
	if numel > have {
		return nil, limit("view", fmt.Sprintf("%d elements that repeat the %d of its storage", numel, have), "no more elements than the storage has",
			"save a contiguous() copy of the tensor")
	}
	meta := tensor.Tensor{Name: name, DType: v.dtype.id, Shape: v.shape, File: d.name, Size: numel * item}
	at := v.storage.data.offset + v.offset*item
	axes := v.axes()
	if len(axes) == 0 || len(axes) == 1 && axes[0].stride == 1 || empty {
		return tensor.New(meta, v.storage.data, at), nil
	}
	return tensor.New(meta, &gather{data: v.storage.data, at: at, item: item, axes: axes}, at), nil
}

// An axis is a dimension of a view: n steps of so many elements of the storage,
// and, while gathering, of so many of the destination.
type axis struct{ n, stride, to int64 }

// axes returns the dimensions of v, outermost first, without those of one step
// and with those joined that are one run.
func (v *view) axes() []axis {
	var axes []axis
	for i, n := range v.shape {
		if n == 1 {
			continue
		}
		if k := len(axes) - 1; k >= 0 && axes[k].stride == v.stride[i]*n {
			axes[k] = axis{n: axes[k].n * n, stride: v.stride[i]}
			continue
		}
		axes = append(axes, axis{n: n, stride: v.stride[i]})
	}
	return axes
}

// A gather reads a view whose elements do not follow each other, as if they
// did from offset at of the file on. It reads the parts that are asked for, in
// windows where elements lie close and one by one where they do not.
type gather struct {
	data *record
	at   int64 // offset in the file of the first element
	item int64
	axes []axis
}

const (
	// window is how many bytes of a storage are read at once to pick from.
	window = 256 << 10
	// hop is how many bytes cost as much to read as another call.
	hop = 8 << 10
)

var windows = sync.Pool{New: func() any { return new([window]byte) }}

// ReadAt reads elements in the order of the view.
func (g *gather) ReadAt(p []byte, off int64) (int, error) {
	lo := off - g.at
	hi := lo + int64(len(p))
	first, end := lo/g.item, (hi+g.item-1)/g.item
	dst := p
	if lo%g.item != 0 || hi%g.item != 0 {
		dst = make([]byte, (end-first)*g.item)
	}
	w := windows.Get().(*[window]byte)
	defer windows.Put(w)
	if err := g.fill(w, dst, first, end, g.axes, g.at); err != nil {
		return 0, err
	}
	if lo%g.item != 0 || hi%g.item != 0 {
		copy(p, dst[lo-first*g.item:])
	}
	return len(p), nil
}

// fill reads the elements lo to hi, in the order of axes, of the part of the
// view that begins at src. It splits them into boxes: whole inner axes, so many
// steps of an outer one.
func (g *gather) fill(w *[window]byte, dst []byte, lo, hi int64, axes []axis, src int64) error {
	inner := int64(1)
	for _, a := range axes[1:] {
		inner *= a.n
	}
	for lo < hi {
		step := lo / inner
		at := src + step*axes[0].stride*g.item
		n := min(hi, (step+1)*inner) - lo
		var err error
		if whole := (hi - lo) / inner; lo%inner == 0 && whole > 0 {
			n = whole * inner
			box := append([]axis{{n: whole, stride: axes[0].stride}}, axes[1:]...)
			to := int64(1)
			for i := len(box) - 1; i >= 0; i-- {
				box[i].to = to
				to *= box[i].n
			}
			slices.SortFunc(box, func(a, b axis) int { return cmp.Compare(b.stride, a.stride) })
			err = g.box(w, dst[:n*g.item], box, at)
		} else {
			err = g.fill(w, dst[:n*g.item], lo-step*inner, lo-step*inner+n, axes[1:], at)
		}
		if err != nil {
			return err
		}
		dst = dst[n*g.item:]
		lo += n
	}
	return nil
}

// box reads a box, its axes by falling stride, so that the storage is read from
// front to back.
func (g *gather) box(w *[window]byte, dst []byte, axes []axis, src int64) error {
	if len(axes) == 0 {
		_, err := g.data.ReadAt(dst[:g.item], src)
		return err
	}
	a := axes[0]
	if len(axes) == 1 && a.stride == 1 && a.to == 1 {
		_, err := g.data.ReadAt(dst[:a.n*g.item], src)
		return err
	}
	span := g.item // bytes from the first to the last element of one step
	for _, b := range axes[1:] {
		span += (b.n - 1) * b.stride * g.item
	}
	stride := a.stride * g.item
	steps := int64(1)
	if span <= window && stride <= span+hop {
		steps = a.n
		if stride > 0 {
			steps = min(a.n, (window-span)/stride+1)
		}
	}
	for i := int64(0); i < a.n; i += steps {
		steps = min(steps, a.n-i)
		to, from := dst[i*a.to*g.item:], src+i*stride
		if steps == 1 && (span > window || stride > span+hop) {
			if err := g.box(w, to, axes[1:], from); err != nil {
				return err
			}
			continue
		}
		buf := w[:(steps-1)*stride+span]
		if _, err := g.data.ReadAt(buf, from); err != nil {
			return err
		}
		part := append([]axis{{n: steps, stride: a.stride, to: a.to}}, axes[1:]...)
		scatter(to, buf, part, g.item)
	}
	return nil
}

// scatter copies the elements of src to their places in dst.
func scatter(dst, src []byte, axes []axis, item int64) {
	a := axes[0]
	if len(axes) > 1 {
		for i := range a.n {
			scatter(dst[i*a.to*item:], src[i*a.stride*item:], axes[1:], item)
		}
		return
	}
	if a.stride == 1 && a.to == 1 {
		copy(dst[:a.n*item], src)
		return
	}
	for i := range a.n {
		copy(dst[i*a.to*item:][:item], src[i*a.stride*item:])
	}
}

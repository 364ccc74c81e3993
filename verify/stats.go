package verify

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	goruntime "runtime"
	"slices"
	"sync"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/kernels/ref"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/quantize"
	"github.com/tritter-ai/tritter/runtime"
)

// TensorStats describes the content of one tensor.
type TensorStats struct {
	Name        string      `json:"name"`
	Role        string      `json:"role,omitempty"` // "q", "gate"; empty where the config does not name the tensor
	Layer       int         `json:"layer"`          // model.NoLayer outside the blocks
	Encoding    string      `json:"encoding"`
	Rule        string      `json:"rule"`
	Granularity string      `json:"granularity"`
	Dims        []int       `json:"dims"`
	Bytes       int64       `json:"bytes"` // data and scales
	Trits       *TritStats  `json:"trits,omitempty"`
	Scales      *ScaleStats `json:"scales,omitempty"`
	Values      *ValueStats `json:"values,omitempty"` // of dense tensors
	Error       *QuantError `json:"error,omitempty"`  // with a source whose floats were rounded
	Anomalies   []string    `json:"anomalies,omitempty"`

	info *format.TensorInfo
}

// TritStats counts the trits of a matrix.
type TritStats struct {
	Minus         int64 `json:"minus"`
	Zero          int64 `json:"zero"`
	Plus          int64 `json:"plus"`
	ZeroRows      int   `json:"zero_rows"`       // rows of zeros
	OneSymbolRows int   `json:"one_symbol_rows"` // rows of -1 only, or of +1 only
}

// Share returns the shares of -1, 0 and +1.
func (s *TritStats) Share() (minus, zero, plus float64) {
	n := float64(s.Minus + s.Zero + s.Plus)
	return float64(s.Minus) / n, float64(s.Zero) / n, float64(s.Plus) / n
}

// ScaleStats describes the scales of a matrix by their absolute values.
type ScaleStats struct {
	Count    int     `json:"count"`
	Min      float32 `json:"min"`
	Median   float32 `json:"median"`
	Max      float32 `json:"max"`
	Negative int     `json:"negative"`
	Zero     int     `json:"zero"`
	Outliers int     `json:"outliers"` // beyond OutlierFactor times the median, or below it by that
}

// OutlierFactor is how far from the median of a tensor's scales one has to be to
// count as an outlier.
const OutlierFactor = 16

// ValueStats describes the values of a dense tensor.
type ValueStats struct {
	Min      float32 `json:"min"`
	Max      float32 `json:"max"`
	RMS      float64 `json:"rms"`
	ZeroRows int     `json:"zero_rows"`
}

// QuantError is how far the trits are from the floats that they were rounded from.
type QuantError struct {
	Relative float64 `json:"relative"` // |w - trit x scale| / |w|
}

// measureTensors fills Report.Tensors.
func (v *verifier) measureTensors() (string, error) {
	h := v.file.Header()
	stats := make([]TensorStats, len(h.Tensors))
	roles := map[string]model.Tensor{}
	if v.config != nil {
		for _, t := range v.config.Manifest() {
			roles[t.Name] = t
		}
	}
	var total, done int64
	for i := range h.Tensors {
		t := &h.Tensors[i]
		total += t.Length
		stats[i] = TensorStats{Name: t.Name, Layer: model.NoLayer, Encoding: t.Encoding.String(), Rule: t.Rule.String(), Granularity: t.Granularity.String(),
			Dims: t.Dims, Bytes: t.Length + t.ScaleLength, info: t}
		if m, ok := roles[t.Name]; ok {
			stats[i].Role, stats[i].Layer = string(m.Role), m.Layer
		}
	}
	errs := make([]error, len(stats))
	v.each(len(stats), func(i int) {
		errs[i] = format.Guard(func() error { return v.measure(v.ctx, &stats[i]) })
	}, func(i int) {
		done += h.Tensors[i].Length
		v.progress("tensors", done, total)
	})
	for _, err := range errs {
		if err != nil {
			return "", err
		}
	}
	v.report.Tensors = stats
	return fmt.Sprintf("%d tensors measured", len(stats)), nil
}

// each calls work for 0 .. n-1 on the workers, and after for each that ended, one
// at a time.
func (v *verifier) each(n int, work, after func(i int)) {
	workers := v.opt.Workers
	if workers < 1 {
		workers = goruntime.GOMAXPROCS(0)
	}
	next := make(chan int)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range min(workers, n) {
		wg.Go(func() {
			for i := range next {
				work(i)
				mu.Lock()
				after(i)
				mu.Unlock()
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

func (v *verifier) measure(ctx context.Context, s *TensorStats) error {
	t, _ := v.file.Tensor(s.Name)
	data, err := t.Data()
	if err != nil {
		return err
	}
	scales, err := t.Scales()
	if err != nil {
		return nil // a finding of the payload check: this tensor stays without numbers
	}
	if s.info.Encoding.Ternary() {
		s.Trits = countTrits(data, s.info)
	} else if s.Values, err = values(ctx, data, scales, s.info); err != nil {
		return err
	}
	if scales != nil {
		s.Scales = scaleStats(scales)
	}
	s.Anomalies = anomalies(s)
	return ctx.Err()
}

func anomalies(s *TensorStats) (out []string) {
	add := func(n int, what string) {
		if n > 0 {
			out = append(out, fmt.Sprintf("%d %s", n, what))
		}
	}
	if t := s.Trits; t != nil {
		add(t.ZeroRows, "rows of zeros")
		add(t.OneSymbolRows, "rows of one symbol")
	}
	if c := s.Scales; c != nil {
		add(c.Outliers, fmt.Sprintf("scales beyond %d times their median", OutlierFactor))
		add(c.Zero, "scales of zero")
	}
	if d := s.Values; d != nil && len(s.Dims) == 2 {
		add(d.ZeroRows, "rows of zeros")
	}
	return out
}

// countTrits counts symbols by row. Padding is zero and not counted.
func countTrits(data []byte, info *format.TensorInfo) *TritStats {
	s := &TritStats{}
	rows, cols := info.Dims[0], info.Dims[1]
	tiles, size := quantize.Tiles(cols), quantize.TileBytes2
	if info.Encoding == format.Trit3 {
		size = quantize.TileBytes3
	}
	run := size / quantize.TileRows
	for row := range rows {
		var plus, minus int64
		for tile := range tiles {
			at := (row/quantize.TileRows*tiles+tile)*size + row%quantize.TileRows*run
			p, m := countRun(data[at:at+run], info.Encoding)
			plus, minus = plus+p, minus+m
		}
		n := int64(cols)
		s.Plus, s.Minus, s.Zero = s.Plus+plus, s.Minus+minus, s.Zero+n-plus-minus
		switch {
		case plus == 0 && minus == 0:
			s.ZeroRows++
		case plus == n || minus == n:
			s.OneSymbolRows++
		}
	}
	return s
}

func countRun(run []byte, e format.Encoding) (plus, minus int64) {
	if e == format.Trit3 {
		for _, b := range run {
			plus, minus = plus+int64(digits3[b].plus), minus+int64(digits3[b].minus)
		}
		return plus, minus
	}
	for ; len(run) >= 8; run = run[8:] { // of a 2-bit code, the low bit is set in +1 and -1, the high bit in -1
		w := binary.LittleEndian.Uint64(run)
		neg := int64(bits.OnesCount64(w & 0xaaaaaaaaaaaaaaaa))
		plus, minus = plus+int64(bits.OnesCount64(w&0x5555555555555555))-neg, minus+neg
	}
	return plus, minus
}

// digits3 counts the digits of a base-3 byte: 1 is +1, 2 is -1.
var digits3 = func() (count [256]struct{ plus, minus uint8 }) {
	for b := range 243 {
		for v := b; v > 0; v /= 3 {
			switch v % 3 {
			case 1:
				count[b].plus++
			case 2:
				count[b].minus++
			}
		}
	}
	return count
}()

func scaleStats(scales []float32) *ScaleStats {
	s := &ScaleStats{Count: len(scales)}
	abs := make([]float32, len(scales))
	for i, v := range scales {
		abs[i] = float32(math.Abs(float64(v)))
		if v < 0 {
			s.Negative++
		}
		if v == 0 {
			s.Zero++
		}
	}
	slices.Sort(abs)
	s.Min, s.Median, s.Max = abs[0], abs[len(abs)/2], abs[len(abs)-1]
	for _, v := range abs {
		if v > OutlierFactor*s.Median || v != 0 && v*OutlierFactor < s.Median {
			s.Outliers++
		}
	}
	return s
}

func values(ctx context.Context, data []byte, scales []float32, info *format.TensorInfo) (*ValueStats, error) {
	d := runtime.DenseView(info, data, scales)
	s := &ValueStats{Min: float32(math.Inf(1)), Max: float32(math.Inf(-1))}
	row, squares := make([]float32, d.Cols), 0.0
	for i := range d.Rows {
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		ref.Ops{}.EmbedRow(row, d, i)
		zero := true
		for _, v := range row {
			s.Min, s.Max = min(s.Min, v), max(s.Max, v)
			squares += float64(float64(v) * float64(v))
			zero = zero && v == 0
		}
		if zero {
			s.ZeroRows++
		}
	}
	s.RMS = math.Sqrt(squares / (float64(d.Rows) * float64(d.Cols)))
	if math.IsNaN(s.RMS) || math.IsInf(s.RMS, 0) { // a finding of the payload check; JSON has no such numbers
		return nil, nil
	}
	return s, nil
}

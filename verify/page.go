package verify

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tritter-ai/tritter/model"
)

//go:embed page.html
var pageHTML string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"bytes":   bytesForPeople,
	"percent": func(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) },
	"number":  func(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) },
	"single":  func(x float32) string { return strconv.FormatFloat(float64(x), 'g', 4, 32) },
	"exact":   func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) },
	"exact32": func(x float32) string { return strconv.FormatFloat(float64(x), 'g', -1, 32) },
	"dims":    func(d []int) string { return strings.Join(strings.Fields(strings.Trim(fmt.Sprint(d), "[]")), " × ") },
	"group":   groupDigits,
	"parts":   parts,
	"zeros":   zeros,
}).Parse(pageHTML))

func bytesForPeople(n int64) string {
	f, unit := float64(n), "B"
	for _, u := range []string{"KiB", "MiB", "GiB"} {
		if f < 1024 {
			break
		}
		f, unit = f/1024, u
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}

// groupDigits writes n in groups of three digits.
func groupDigits(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// WriteHTML writes the report as one page that needs nothing else: no script, no
// network. It shows tensors and charts when Report.Tensors is filled.
func (r *Report) WriteHTML(w io.Writer) error {
	return page.Execute(w, struct {
		*Report
		Trits, Scales, Errors []chart
		Outlier               int
		HasError              bool
	}{r, r.tritCharts(), r.scaleCharts(), r.errorCharts(), OutlierFactor, slices.ContainsFunc(r.Tensors, func(t TensorStats) bool { return t.Error != nil })})
}

// The size of a chart in its own units, which page.html's viewBox repeats.
const (
	chartWidth  = 300
	chartHeight = 72
)

// chart is one small picture: a value for each layer of one role.
type chart struct {
	Role string
	Text string // what it shows, in words
	Bars []bar
	Low  string // what the lower and the upper edge stand for
	High string
}

// bar is a rectangle with a tooltip.
type bar struct {
	Class      string
	X, Y, W, H string
	Title      string
}

func rect(class string, x, y, w, h float64, title string) bar {
	f := func(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }
	return bar{class, f(x), f(y), f(w), f(h), title}
}

// roleOrder is the order of a block.
var roleOrder = []model.Projection{model.Q, model.K, model.V, model.O, model.Gate, model.Up, model.Down}

// byRole returns the matrices of one role by layer.
func (r *Report) byRole(role model.Projection) (out []*TensorStats) {
	for i := range r.Tensors {
		if t := &r.Tensors[i]; t.Role == string(role) && t.Trits != nil {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b *TensorStats) int { return a.Layer - b.Layer })
	return out
}

// charts draws one chart for each role that has layers.
func (r *Report) charts(draw func(c *chart, layers []*TensorStats, step float64)) (out []chart) {
	for _, role := range roleOrder {
		if layers := r.byRole(role); len(layers) > 0 {
			c := chart{Role: string(role)}
			draw(&c, layers, float64(chartWidth)/float64(len(layers)))
			if len(c.Bars) > 0 {
				out = append(out, c)
			}
		}
	}
	return out
}

func (r *Report) tritCharts() []chart {
	return r.charts(func(c *chart, layers []*TensorStats, step float64) {
		c.Low, c.High = "0 %", "100 %"
		least, most := 1.0, 0.0
		for i, t := range layers {
			minus, zero, plus := t.Trits.Share()
			least, most = min(least, zero), max(most, zero)
			title := fmt.Sprintf("layer %d: %.1f %% -1, %.1f %% 0, %.1f %% +1", t.Layer, 100*minus, 100*zero, 100*plus)
			x, w, y := float64(i)*step, step*0.86, 0.0
			for _, part := range []struct {
				class string
				share float64
			}{{"minus", minus}, {"zero", zero}, {"plus", plus}} {
				h := part.share * chartHeight
				c.Bars = append(c.Bars, rect(part.class, x, y, w, h, title))
				y += h
			}
		}
		c.Text = fmt.Sprintf("zeros: %.1f to %.1f %%", 100*least, 100*most)
	})
}

func (r *Report) scaleCharts() []chart {
	return r.charts(func(c *chart, layers []*TensorStats, step float64) {
		low, high := math.Inf(1), math.Inf(-1)
		for _, t := range layers {
			if t.Scales != nil && t.Scales.Median > 0 {
				low, high = min(low, float64(max(t.Scales.Min, t.Scales.Median/OutlierFactor))), max(high, float64(min(t.Scales.Max, t.Scales.Median*OutlierFactor)))
			}
		}
		if !(low < math.Inf(1)) {
			return
		}
		bottom, top := math.Log(low)-0.1, math.Log(high)+0.1
		y := func(v float32) float64 {
			at := (math.Log(float64(v)) - bottom) / (top - bottom)
			return chartHeight * (1 - min(max(at, 0), 1))
		}
		for i, t := range layers {
			s := t.Scales
			if s == nil || s.Median <= 0 {
				continue
			}
			title := fmt.Sprintf("layer %d: median %.4g, from %.4g to %.4g, %d outliers", t.Layer, s.Median, s.Min, s.Max, s.Outliers)
			class := "scale"
			if s.Outliers > 0 {
				class = "scale odd"
			}
			x, w := float64(i)*step, step*0.86
			hi, lo, mid := y(s.Max), y(max(s.Min, math.SmallestNonzeroFloat32)), y(s.Median)
			c.Bars = append(c.Bars, rect(class+" range", x, hi, w, max(lo-hi, 0.5), title), rect(class, x, mid-1.25, w, 2.5, title))
		}
		c.Low, c.High = fmt.Sprintf("%.3g", low), fmt.Sprintf("%.3g", high)
		c.Text = fmt.Sprintf("from %.3g to %.3g", low, high)
	})
}

func (r *Report) errorCharts() []chart {
	return r.charts(func(c *chart, layers []*TensorStats, step float64) {
		c.Low, c.High = "0", "1"
		worst := 0.0
		for i, t := range layers {
			if t.Error == nil {
				continue
			}
			e := min(t.Error.Relative, 1)
			worst = max(worst, t.Error.Relative)
			h := e * chartHeight
			c.Bars = append(c.Bars, rect("error", float64(i)*step, chartHeight-h, step*0.86, h, fmt.Sprintf("layer %d: %.4f", t.Layer, t.Error.Relative)))
		}
		c.Text = fmt.Sprintf("at most %.3f", worst)
	})
}

// parts are the shares as rectangles of a bar of 100 by 10.
func parts(s *TritStats) []bar {
	minus, zero, plus := s.Share()
	return []bar{rect("minus", 0, 0, 100*minus, 10, ""), rect("zero", 100*minus, 0, 100*zero, 10, ""), rect("plus", 100*(minus+zero), 0, 100*plus, 10, "")}
}

// zeros returns the share of zeros.
func zeros(s *TritStats) float64 {
	_, zero, _ := s.Share()
	return zero
}

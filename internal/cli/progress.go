package cli

import (
	"os"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Progress shows a bar a stage on standard error when that is a terminal, and
// nothing otherwise.
type Progress struct {
	mu    sync.Mutex
	group *mpb.Progress // nil when nothing is shown
	stage string
	bar   *mpb.Bar
}

// NewProgress returns a display; quiet turns it off.
func NewProgress(quiet bool) *Progress {
	p := &Progress{}
	if !quiet && IsTerminal(os.Stderr) {
		p.group = mpb.New(mpb.WithOutput(os.Stderr), mpb.WithWidth(48))
	}
	return p
}

// Update shows that done of total bytes of a stage are done. A total of 0 is a
// stage whose length is not known. It is safe for concurrent use.
func (p *Progress) Update(stage string, done, total int64) {
	if p.group == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stage != stage {
		p.end()
		p.stage = stage
		options := []mpb.BarOption{mpb.PrependDecorators(decor.Name(stage, decor.WC{W: 10, C: decor.DindentRight}))}
		if total > 0 {
			options = append(options, mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f "), decor.AverageSpeed(decor.SizeB1024(0), "% .0f "), decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO), "done")))
			p.bar = p.group.AddBar(total, options...)
		} else {
			p.bar = p.group.AddSpinner(0, options...)
		}
	}
	p.bar.SetCurrent(done)
}

func (p *Progress) end() {
	if p.bar != nil {
		p.bar.SetTotal(-1, true)
		p.bar = nil
	}
}

// Close ends the display.
func (p *Progress) Close() {
	if p.group == nil {
		return
	}
	p.mu.Lock()
	p.end()
	p.mu.Unlock()
	p.group.Wait()
}

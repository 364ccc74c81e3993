package driver

import (
	"errors"
	"fmt"
)

// Graph is captured work of a stream.
type Graph struct{ r *resource }

// captureThreadLocal is CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: calls of other
// threads, which serve other devices, do not break the capture.
const captureThreadLocal = 1

// BeginCapture collects the work that follows in the stream instead of doing it.
// Until EndCapture, calls that wait or allocate break the capture.
func (s *Stream) BeginCapture() error {
	h, err := s.use()
	if err != nil {
		return err
	}
	return s.r.d.call(cuStreamBeginCapture, h, captureThreadLocal)
}

// EndCapture ends a capture and returns its work. After an error the stream does
// work again.
func (s *Stream) EndCapture() (*Graph, error) {
	h, err := s.use()
	if err != nil {
		return nil, err
	}
	d := s.r.d
	if err := d.call(cuStreamEndCapture, h, d.result(0)); err != nil {
		return nil, err
	}
	if d.frame.out[0] == 0 {
		return nil, errors.New("the capture was broken by a call that cannot be captured")
	}
	return &Graph{d.keep(uintptr(d.frame.out[0]), cuGraphDestroy)}, nil
}

// Instantiate makes the graph ready to run. The graph may be destroyed after it.
func (g *Graph) Instantiate() (*Exec, error) {
	h, err := g.r.use("graph")
	if err != nil {
		return nil, err
	}
	d := g.r.d
	if err := d.call(cuGraphInstantiate, d.result(0), h, 0); err != nil {
		return nil, fmt.Errorf("graph: %w", err)
	}
	return &Exec{d.keep(uintptr(d.frame.out[0]), cuGraphExecDestroy)}, nil
}

// Destroy gives the graph back. A second Destroy does nothing.
func (g *Graph) Destroy() error { return g.r.release() }

// Exec is a graph that can run.
type Exec struct{ r *resource }

// Launch puts the whole graph into the stream. It does not allocate.
func (e *Exec) Launch(s *Stream) error {
	h, err := e.r.use("graph")
	if err != nil {
		return err
	}
	stream, err := s.use()
	if err != nil {
		return err
	}
	return e.r.d.call(cuGraphLaunch, h, stream)
}

// Destroy gives it back. A second Destroy does nothing.
func (e *Exec) Destroy() error { return e.r.release() }

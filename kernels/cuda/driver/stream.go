package driver

import (
	"fmt"
	"math"
)

// Stream is a queue of work of the device. What is in one stream runs in order.
type Stream struct{ r *resource }

// Flags of cuStreamCreate and cuEventCreate.
const (
	streamNonBlocking  = 1 // no order with the default stream, which nobody uses here
	eventDisableTiming = 2
)

// NewStream creates a stream.
func (c *Context) NewStream() (*Stream, error) {
	d := c.d
	if err := d.call(cuStreamCreate, d.result(0), streamNonBlocking); err != nil {
		return nil, err
	}
	return &Stream{d.keep(uintptr(d.frame.out[0]), cuStreamDestroy)}, nil
}

// use returns the handle. A nil stream is an error: its handle would be that of
// the default stream.
func (s *Stream) use() (uintptr, error) {
	if s == nil {
		return 0, fmt.Errorf("no stream: %w", ErrClosed)
	}
	return s.r.use("stream")
}

// Synchronize waits until all work of the stream is done. An error may be that of
// any work before.
func (s *Stream) Synchronize() error {
	h, err := s.use()
	if err != nil {
		return err
	}
	return s.r.d.call(cuStreamSynchronize, h)
}

// Wait lets the work that follows in the stream wait for the event, without
// holding up the host.
func (s *Stream) Wait(e *Event) error {
	h, err := s.use()
	if err != nil {
		return err
	}
	event, err := e.use()
	if err != nil {
		return err
	}
	return s.r.d.call(cuStreamWaitEvent, h, event, 0)
}

// Destroy gives the stream back; work in it still ends. A second Destroy does
// nothing.
func (s *Stream) Destroy() error { return s.r.release() }

// Event is a mark in a stream.
type Event struct{ r *resource }

// NewEvent creates an event. With timing it can measure, and costs a little more.
func (c *Context) NewEvent(timing bool) (*Event, error) {
	d, flags := c.d, uintptr(eventDisableTiming)
	if timing {
		flags = 0
	}
	if err := d.call(cuEventCreate, d.result(0), flags); err != nil {
		return nil, err
	}
	return &Event{d.keep(uintptr(d.frame.out[0]), cuEventDestroy)}, nil
}

func (e *Event) use() (uintptr, error) {
	if e == nil {
		return 0, fmt.Errorf("no event: %w", ErrClosed)
	}
	return e.r.use("event")
}

// Record sets the mark behind the work that is in the stream now.
func (e *Event) Record(s *Stream) error {
	h, err := e.use()
	if err != nil {
		return err
	}
	stream, err := s.use()
	if err != nil {
		return err
	}
	return e.r.d.call(cuEventRecord, h, stream)
}

// Synchronize waits until the mark is reached.
func (e *Event) Synchronize() error {
	h, err := e.use()
	if err != nil {
		return err
	}
	return e.r.d.call(cuEventSynchronize, h)
}

// Query reports whether the mark is reached.
func (e *Event) Query() (done bool, err error) {
	h, err := e.use()
	if err != nil {
		return false, err
	}
	d := e.r.d
	if !d.busy.Load() {
		return false, fmt.Errorf("%s: %w", symbols[cuEventQuery].name, ErrOutsideDo)
	}
	switch code := d.invoke(cuEventQuery, h); code {
	case 0:
		return true, nil
	case codeNotReady:
		return false, nil
	default:
		return false, d.failure(cuEventQuery, code)
	}
}

// ElapsedSince returns the milliseconds from start to e, with a resolution of half
// a microsecond. Both have timing and are reached.
func (e *Event) ElapsedSince(start *Event) (ms float32, err error) {
	h, err := e.use()
	if err != nil {
		return 0, err
	}
	from, err := start.use()
	if err != nil {
		return 0, err
	}
	d := e.r.d
	if err := d.call(cuEventElapsedTime, d.result(0), from, h); err != nil {
		return 0, err
	}
	return math.Float32frombits(uint32(d.frame.out[0])), nil
}

// Destroy gives the event back. A second Destroy does nothing.
func (e *Event) Destroy() error { return e.r.release() }

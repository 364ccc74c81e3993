//go:build linux && (amd64 || arm64) && !nocuda

package driver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestDoReturnsTheError(t *testing.T) {
	dev := newStub(t, "").open(0)
	require.Equal(t, io.ErrUnexpectedEOF, dev.Do(func(*Context) error { return io.ErrUnexpectedEOF }))
	require.NoError(t, dev.Do(nothing))
}

func TestPanicReachesTheCaller(t *testing.T) {
	dev := newStub(t, "").open(0)
	for _, value := range []any{"broken", io.ErrClosedPipe, 7} {
		func() {
			defer func() {
				p, ok := recover().(*Panic)
				require.True(t, ok)
				require.Equal(t, value, p.Value)
				require.Contains(t, string(p.Stack), "TestPanicReachesTheCaller")
				require.ErrorContains(t, p, fmt.Sprintf("panic inside Device.Do: %v\n", value))
				err, isError := value.(error)
				require.Equal(t, isError, errors.Is(p, io.ErrClosedPipe))
				require.Equal(t, err, p.Unwrap())
			}()
			dev.Do(func(*Context) error { panic(value) })
		}()
		require.NoError(t, dev.Do(func(c *Context) error { _, _, err := c.MemInfo(); return err }), "the device goes on")
	}
}

// TestFaultReachesTheCaller: a caller that asks for panics at faults, as the guard
// of mapped files does, gets them with their address also from inside Do.
func TestFaultReachesTheCaller(t *testing.T) {
	dev := newStub(t, "").open(0)
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	defer unix.Munmap(page)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		fault, ok := recover().(interface {
			runtime.Error
			Addr() uintptr
		})
		require.True(t, ok)
		require.NotZero(t, fault.Addr())
		require.ErrorContains(t, fault, "TestFaultReachesTheCaller")
		require.NoError(t, dev.Do(nothing))
	}()
	var b byte
	dev.Do(func(*Context) error { b = page[100]; return nil })
	t.Fatal("no panic", b)
}

// TestGoexit: what t.FailNow does inside Do ends the caller, and the device lives
// on in another thread.
func TestGoexit(t *testing.T) {
	s := newStub(t, "")
	dev := s.open(0)
	for range 3 {
		after, done := false, make(chan struct{})
		go func() {
			defer close(done)
			dev.Do(func(*Context) error { runtime.Goexit(); return nil })
			after = true
		}()
		<-done
		require.False(t, after)
		s.log()
		require.NoError(t, dev.Do(func(c *Context) error { _, _, err := c.MemInfo(); return err }))
		require.ErrorIs(t, dev.Do(func(*Context) error { return dev.Do(nothing) }), ErrInsideDo)
	}
	require.NoError(t, dev.Close())
}

func TestInsideDo(t *testing.T) {
	s := newStub(t, "devices=2")
	dev, other := s.open(0), s.open(1)
	err := dev.Do(func(*Context) error { return dev.Do(nothing) })
	require.ErrorIs(t, err, ErrInsideDo)
	require.ErrorContains(t, err, "would wait for itself")
	require.ErrorIs(t, dev.Do(func(*Context) error { return dev.Close() }), ErrInsideDo)
	require.NoError(t, dev.Do(func(*Context) error { return other.Do(nothing) }), "another device is no loop")
	require.NoError(t, dev.Do(nothing), "nothing was closed")
}

func TestOutsideDo(t *testing.T) {
	s := newStub(t, "")
	dev := s.open(0)
	var context *Context
	var st *Stream
	var e *Event
	inside(t, dev, func(c *Context) {
		context, st = c, stream(t, c)
		var err error
		e, err = c.NewEvent(false)
		require.NoError(t, err)
	})
	s.log()
	_, err := context.Alloc(1)
	require.ErrorIs(t, err, ErrOutsideDo)
	require.EqualError(t, st.Synchronize(), "cuStreamSynchronize: called outside Device.Do; move the call into the function given to Do")
	_, err = e.Query()
	require.ErrorIs(t, err, ErrOutsideDo)
	require.ErrorIs(t, st.Destroy(), ErrOutsideDo)
	require.Equal(t, []string{""}, s.log())
	inside(t, dev, func(*Context) { require.NoError(t, st.Synchronize(), "the refused Destroy left it") })
}

func TestClose(t *testing.T) {
	s := newStub(t, "")
	dev := s.open(0)
	var h *Host
	var st *Stream
	inside(t, dev, func(c *Context) {
		var err error
		_, err = NewArena(c, 1000)
		require.NoError(t, err)
		st = stream(t, c)
		h, err = c.AllocHost(5)
		require.NoError(t, err)
		kernel(t, c)
		require.NoError(t, st.BeginCapture())
		g, err := st.EndCapture()
		require.NoError(t, err)
		_, err = g.Instantiate()
		require.NoError(t, err)
	})
	s.log()
	require.NoError(t, dev.Close())
	require.Equal(t, []string{"cuCtxSynchronize", "cuGraphExecDestroy(x5)", "cuGraphDestroy(g4)", "cuModuleUnload(m2)", "cuMemFreeHost", "cuStreamDestroy_v2(s1)", "cuMemFree_v2",
		"cuCtxSetCurrent(none)", "cuDevicePrimaryCtxRelease_v2(0)"}, s.log())
	require.NoError(t, dev.Close())
	err := dev.Do(nothing)
	require.ErrorIs(t, err, ErrClosed)
	require.EqualError(t, err, "device 0: closed")
	require.ErrorIs(t, st.Synchronize(), ErrClosed)
	require.Nil(t, h.Bytes(), "no slice of freed memory is left behind")
	require.Equal(t, []string{""}, s.log())

	again := s.open(0)
	require.NoError(t, again.Do(func(c *Context) error { _, err := c.Alloc(1); return err }), "the device opens again")
}

// TestTwoDevices: each has a thread and a context of its own.
func TestTwoDevices(t *testing.T) {
	s := newStub(t, "devices=2")
	devs := []*Device{s.open(0), s.open(1)}
	both := make(chan struct{})
	var wg sync.WaitGroup
	threads := make([]int64, 2)
	for i, dev := range devs {
		wg.Go(func() {
			if err := dev.Do(func(c *Context) error {
				threads[i] = threadID()
				select { // both are inside at once
				case both <- struct{}{}:
				case <-both:
				case <-time.After(10 * time.Second):
					return errors.New("the other device does not run")
				}
				_, err := c.Alloc(100)
				return err
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.NotEqual(t, threads[0], threads[1])
	require.NoError(t, devs[0].Close())
	require.NoError(t, devs[1].Do(func(c *Context) error { _, _, err := c.MemInfo(); return err }))
	require.NoError(t, devs[1].Close())
}

// TestConcurrentUse: many callers are served one at a time, and Close lets none hang.
func TestConcurrentUse(t *testing.T) {
	dev := newStub(t, "").open(0)
	var wg sync.WaitGroup
	inside, ran := 0, 0
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				err := dev.Do(func(c *Context) error {
					inside++
					if inside != 1 {
						t.Error("two inside at once")
					}
					p, err := c.Alloc(8)
					inside--
					ran++
					return errors.Join(err, c.Free(p))
				})
				if err != nil && !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
				if i == 0 && j == 100 {
					if err := dev.Close(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	require.Greater(t, ran, 100)
	require.ErrorIs(t, dev.Do(nothing), ErrClosed)
}

// TestSignalToTheDriversThread: the kernel may deliver Ctrl-C to any thread of the
// process, also to one that the driver started and Go knows nothing of.
func TestSignalToTheDriversThread(t *testing.T) {
	s := newStub(t, "")
	dev := s.open(0)
	thread := invoke(lookup(s.library, "stub_thread"), []uintptr{})
	require.Positive(t, thread)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	defer signal.Stop(signals)
	for range 10 {
		require.NoError(t, unix.Tgkill(unix.Getpid(), thread, syscall.SIGUSR1))
		select {
		case <-signals:
		case <-time.After(10 * time.Second):
			t.Fatal("the signal did not arrive")
		}
	}
	require.NoError(t, dev.Do(nothing))
}

//go:build linux && (amd64 || arm64) && !nocuda

package driver

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/internal/cudastub"
)

// stub is the stand-in library of one test.
type stub struct {
	t       *testing.T
	path    string
	library uintptr
}

// shared is the library that most tests use, one after another; TestMain removes
// it. Its path is empty where there is no C compiler.
var shared string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "tritter-cuda-")
		if err == nil {
			defer os.RemoveAll(dir)
			if shared, err = cudastub.Compile(dir); errors.Is(err, cudastub.ErrNoCompiler) {
				err = nil // each test says so
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// newStub configures the library; with defines, one of its own.
func newStub(t *testing.T, config string, defines ...string) *stub {
	s := &stub{t: t, path: shared}
	if shared == "" || len(defines) > 0 {
		s.path = cudastub.Build(t, defines...)
	}
	var err error
	s.library, err = openLibrary(s.path)
	require.NoError(t, err)
	s.configure(config)
	return s
}

// configure sets the library back and says how it behaves.
func (s *stub) configure(config string) {
	text := append([]byte(config), 0)
	var pin runtime.Pinner
	pin.Pin(&text[0])
	defer pin.Unpin()
	invoke(lookup(s.library, "stub_configure"), []uintptr{uintptr(unsafe.Pointer(&text[0]))})
}

// log returns the calls since the last log, in order.
func (s *stub) log() []string {
	text := make([]byte, 1<<20)
	var pin runtime.Pinner
	pin.Pin(&text[0])
	defer pin.Unpin()
	invoke(lookup(s.library, "stub_log"), []uintptr{uintptr(unsafe.Pointer(&text[0])), uintptr(len(text))})
	return strings.Split(strings.TrimSpace(cString(text)), "\n")
}

// load loads the library as a program does.
func (s *stub) load() *Driver {
	d, err := Load(s.path)
	require.NoError(s.t, err)
	return d
}

// open opens a device that the test need not close, and forgets the log.
func (s *stub) open(ordinal int) *Device {
	dev, err := s.load().Open(ordinal)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { dev.Close() })
	s.log()
	return dev
}

// testPTX is enough PTX for the stub, and for a device.
const testPTX = `.version 7.4
.target sm_80
.address_size 64
.visible .entry add(
	.param .u64 add_param_0,
	.param .u32 add_param_1
)
{
	ret;
}
`

// inside runs fn in the device, with requirements that end the test.
func inside(t *testing.T, dev *Device, fn func(c *Context)) {
	t.Helper()
	require.NoError(t, dev.Do(func(c *Context) error {
		fn(c)
		return nil
	}))
}

// stream makes a stream for a test.
func stream(t *testing.T, c *Context) *Stream {
	s, err := c.NewStream()
	require.NoError(t, err)
	return s
}

// kernel loads the kernel of testPTX.
func kernel(t *testing.T, c *Context) *Function {
	m, err := c.LoadModule(testPTX)
	require.NoError(t, err)
	f, err := m.Function("add")
	require.NoError(t, err)
	return f
}

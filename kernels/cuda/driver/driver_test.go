//go:build linux && (amd64 || arm64) && !nocuda

package driver

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/internal/cudastub"
)

func TestNoLibrary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "libcuda.so.1")
	_, err := Load(path)
	require.ErrorIs(t, err, ErrNoDriver)
	require.ErrorContains(t, err, path)
	require.ErrorContains(t, err, LibraryEnv)

	t.Setenv(LibraryEnv, path+".other")
	_, err = Load("")
	require.ErrorIs(t, err, ErrNoDriver)
	require.ErrorContains(t, err, path+".other")
}

func TestNotADriver(t *testing.T) {
	_, err := Load("libc.so.6")
	require.ErrorIs(t, err, ErrOldDriver)
	require.ErrorContains(t, err, "libc.so.6 has no cuInit: it is no CUDA driver")
}

func TestLoad(t *testing.T) {
	s := newStub(t, "devices=2 version=12040 memory=4096")
	t.Setenv(LibraryEnv, s.path)
	d, err := Load("")
	require.NoError(t, err)
	require.Equal(t, 12040, d.Version())
	require.Equal(t, "12.4", VersionString(d.Version()))
	infos, err := d.Devices()
	require.NoError(t, err)
	require.Equal(t, []Info{
		{Ordinal: 0, Name: "Stub 0", UUID: "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f", PCI: "0000:18:00.0", Major: 9, SMs: 132, TotalMemory: 4096,
			L2: 50 << 20, SharedPerBlockOptin: 232448, SharedPerSM: 233472, RegsPerSM: 65536, MaxThreadsPerSM: 2048},
		{Ordinal: 1, Name: "Stub 1", UUID: "GPU-10111213-1415-1617-1819-1a1b1c1d1e1f", PCI: "0000:19:00.0", Major: 8, SMs: 132, TotalMemory: 4096,
			L2: 50 << 20, SharedPerBlockOptin: 232448, SharedPerSM: 233472, RegsPerSM: 65536, MaxThreadsPerSM: 2048},
	}, infos)
}

func TestLoadFails(t *testing.T) {
	s := newStub(t, "")
	for _, c := range []struct {
		config string
		kind   error
		text   string
	}{
		{"devices=0", ErrNoDevice, "no CUDA device: the driver is loaded and finds none (cuInit: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected); look at nvidia-smi and CUDA_VISIBLE_DEVICES"},
		{"fail=cuInit:34", ErrNoDriver, "cuInit: CUDA_ERROR_STUB_LIBRARY (34): CUDA driver is a stub library"},
		{"fail=cuDriverGetVersion:3", nil, "cuDriverGetVersion: CUDA_ERROR_NOT_INITIALIZED (3): initialization error"},
		{"fail=cuInit:12345", nil, "cuInit: CUDA_ERROR (12345): the driver has no text for this code"},
	} {
		s.configure(c.config)
		_, err := Load(s.path)
		require.EqualError(t, err, c.text)
		if c.kind != nil {
			require.ErrorIs(t, err, c.kind)
		}
		e, ok := errors.AsType[*Error](err)
		require.True(t, ok)
		require.Contains(t, c.text, fmt.Sprintf("(%d)", e.Code))
	}
	s.configure("fail=cuDeviceTotalMem_v2:101:2 devices=2")
	_, err := s.load().Devices()
	require.EqualError(t, err, "device 1: cuDeviceTotalMem_v2: CUDA_ERROR_INVALID_DEVICE (101): invalid device ordinal")
}

// An old driver still lists its devices, and says what it lacks.
func TestOldDriver(t *testing.T) {
	s := newStub(t, "version=11040", "WITHOUT_LAUNCH_EX")
	d := s.load()
	infos, err := d.Devices()
	require.NoError(t, err)
	require.Len(t, infos, 1)
	s.log()
	_, err = d.Open(0)
	require.ErrorIs(t, err, ErrOldDriver)
	require.EqualError(t, err, s.path+" (CUDA 11.4) has no cuLaunchKernelEx, which came with CUDA 11.8; install NVIDIA driver 520 or later")
	require.Equal(t, []string{""}, s.log(), "nothing is called that would have to be undone")
}

func TestOpenFails(t *testing.T) {
	s := newStub(t, "devices=2")
	d := s.load()
	for _, ordinal := range []int{-1, 2} {
		_, err := d.Open(ordinal)
		require.ErrorIs(t, err, ErrNoDevice)
		require.EqualError(t, err, fmt.Sprintf("device %d: no CUDA device of that number; there are 2, counted from 0", ordinal))
	}
	s.configure("fail=cuDevicePrimaryCtxRetain:2")
	_, err := s.load().Open(0)
	require.ErrorIs(t, err, ErrOutOfMemory)
	require.EqualError(t, err, "device 0: cuDevicePrimaryCtxRetain: CUDA_ERROR_OUT_OF_MEMORY (2): out of memory")

	s.configure("fail=cuCtxSetCurrent:46")
	_, err = s.load().Open(0)
	require.ErrorContains(t, err, "cuCtxSetCurrent: CUDA_ERROR_DEVICE_UNAVAILABLE (46)")
	require.Contains(t, s.log(), "cuDevicePrimaryCtxRelease_v2(0)", "the context is given back")
}

// TestCalls holds every call to its arguments and the whole to its order.
func TestCalls(t *testing.T) {
	s := newStub(t, "memory=1000000")
	dev, err := s.load().Open(0)
	require.NoError(t, err)
	require.Equal(t, []string{"cuDevicePrimaryCtxRetain(0)", "cuCtxSetCurrent(device 0)"}, s.log()[17:])
	inside(t, dev, func(c *Context) {
		step := func(err error, want ...string) {
			t.Helper()
			require.NoError(t, err)
			require.Equal(t, want, s.log())
		}
		free, total, err := c.MemInfo()
		step(err, "cuMemGetInfo_v2")
		require.Equal(t, [2]int64{1000000, 1000000}, [2]int64{free, total})
		p, err := c.Alloc(1000)
		step(err, "cuMemAlloc_v2(1000)")
		free, _, err = c.MemInfo()
		step(err, "cuMemGetInfo_v2")
		require.Equal(t, int64(999000), free)
		h, err := c.AllocHost(100)
		step(err, "cuMemHostAlloc(100, 3)", "cuMemHostGetDevicePointer_v2(0)")
		require.Len(t, h.Bytes(), 100)
		require.NotZero(t, h.DevicePtr())
		st, err := c.NewStream()
		step(err, "cuStreamCreate(1)")

		// Data goes there, within the device, and back.
		copy(h.Bytes(), "there and back")
		step(c.CopyToDevice(p+16, h, 6, 8, st), "cuMemcpyHtoDAsync_v2(8, s1)")
		step(c.CopyDevice(p+500, p+16, 8, st), "cuMemcpyDtoDAsync_v2(8, s1)")
		step(c.CopyToHost(h, 92, p+500, 8, st), "cuMemcpyDtoHAsync_v2(8, s1)")
		require.Equal(t, "and back", string(h.Bytes()[92:]))
		step(c.Memset8(p, 0xab, 5, st), "cuMemsetD8Async(171, 5, s1)")
		step(c.Memset32(p+8, 0x01020304, 2, st), "cuMemsetD32Async(16909060, 2, s1)")
		step(c.CopyToHost(h, 0, p, 16, st), "cuMemcpyDtoHAsync_v2(16, s1)")
		require.Equal(t, "ababababab", hex.EncodeToString(h.Bytes()[:5]))
		require.Equal(t, "0403020104030201", hex.EncodeToString(h.Bytes()[8:16]))

		e1, err := c.NewEvent(true)
		step(err, "cuEventCreate(0)")
		e2, err := c.NewEvent(false)
		step(err, "cuEventCreate(2)")
		done, err := e1.Query()
		step(err, "cuEventQuery(e2)")
		require.False(t, done)
		step(e1.Record(st), "cuEventRecord(e2, s1)")
		done, err = e1.Query()
		step(err, "cuEventQuery(e2)")
		require.True(t, done)
		step(e2.Record(st), "cuEventRecord(e3, s1)")
		step(e2.Synchronize(), "cuEventSynchronize(e3)")
		ms, err := e2.ElapsedSince(e1)
		step(err, "cuEventElapsedTime(e2, e3)")
		require.Equal(t, float32(0.5), ms)
		step(st.Wait(e2), "cuStreamWaitEvent(s1, e3, 0)")
		step(st.Synchronize(), "cuStreamSynchronize(s1)")

		m, err := c.LoadModule(testPTX)
		step(err, fmt.Sprintf("cuModuleLoadDataEx(%d bytes, 4 options)", len(testPTX)))
		require.Equal(t, "info    : 0 bytes gmem", m.InfoLog)
		f, err := m.Function("add")
		step(err, "cuModuleGetFunction(m6, add)")
		require.Equal(t, "add", f.Name())
		attr, err := f.Attributes()
		step(err, "cuFuncGetAttribute(4, add)", "cuFuncGetAttribute(1, add)", "cuFuncGetAttribute(3, add)", "cuFuncGetAttribute(0, add)")
		require.Equal(t, FuncAttr{Registers: 40, SharedStatic: 16, Local: 8, MaxThreads: 1024}, attr)
		step(f.SetMaxDynamicShared(100000), "cuFuncSetAttribute(add, 8, 100000)")
		n, err := f.ActiveBlocksPerSM(256, 4096)
		step(err, "cuOccupancyMaxActiveBlocksPerMultiprocessor(add, 256, 4096)")
		require.Equal(t, 8, n)

		var args Args
		args.Ptr(0x1122334455667788).U32(7)
		step(c.Launch(f, &LaunchConfig{Grid: [3]uint32{5}, Block: [3]uint32{256}}, st, &args),
			"cuLaunchKernelEx(add, grid 5 1 1, block 256 1 1, shared 0, s1, parameters 12:887766554433221107000000)")
		step(c.Launch(f, &LaunchConfig{Grid: [3]uint32{5, 6, 7}, Block: [3]uint32{32, 2, 3}, Shared: 99, Programmatic: true}, st, args.Reset().I32(-2).F32(1).U64(3)),
			"cuLaunchKernelEx(add, grid 5 6 7, block 32 2 3, shared 99, s1, 6=1 parameters 16:feffffff0000803f0300000000000000)")
		step(c.Launch(f, &LaunchConfig{Grid: [3]uint32{1}, Block: [3]uint32{1}, Programmatic: true, Cooperative: true}, st, args.Reset()),
			"cuLaunchKernelEx(add, grid 1 1 1, block 1 1 1, shared 0, s1, 6=1 2=1 parameters 0:)")
		step(c.Launch(f, &LaunchConfig{Grid: [3]uint32{1}, Block: [3]uint32{1}, Cooperative: true}, st, nil),
			"cuLaunchKernelEx(add, grid 1 1 1, block 1 1 1, shared 0, s1, 2=1 parameters 0:)")

		step(st.BeginCapture(), "cuStreamBeginCapture_v2(s1, 1)")
		g, err := st.EndCapture()
		step(err, "cuStreamEndCapture(s1)")
		x, err := g.Instantiate()
		step(err, "cuGraphInstantiateWithFlags(g8, 0)")
		step(g.Destroy(), "cuGraphDestroy(g8)")
		step(x.Launch(st), "cuGraphLaunch(x9, s1)")
		step(x.Destroy(), "cuGraphExecDestroy(x9)")
		step(e1.Destroy(), "cuEventDestroy_v2(e2)")
		step(m.Unload(), "cuModuleUnload(m6)")
		step(h.Free(), "cuMemFreeHost")
		require.Nil(t, h.Bytes())
		step(st.Destroy(), "cuStreamDestroy_v2(s1)")
		step(c.Free(p), "cuMemFree_v2")
		require.NoError(t, errors.Join(c.Free(0), x.Destroy(), e1.Destroy(), m.Unload(), h.Free(), st.Destroy()))
		require.Equal(t, []string{""}, s.log(), "a second Destroy calls nothing")
	})
	require.NoError(t, dev.Close())
	require.Equal(t, []string{"cuCtxSynchronize", "cuEventDestroy_v2(e3)", "cuCtxSetCurrent(none)", "cuDevicePrimaryCtxRelease_v2(0)"}, s.log())
}

// TestLimits: what is wrong is refused before the driver sees it.
func TestLimits(t *testing.T) {
	s := newStub(t, "")
	dev := s.open(0)
	inside(t, dev, func(c *Context) {
		st, f := stream(t, c), kernel(t, c)
		h, err := c.AllocHost(10)
		require.NoError(t, err)
		p, err := c.Alloc(10)
		require.NoError(t, err)
		gone := stream(t, c)
		require.NoError(t, gone.Destroy())
		e, err := c.NewEvent(false)
		require.NoError(t, err)
		s.log()
		one := &LaunchConfig{Grid: [3]uint32{1}, Block: [3]uint32{1}}
		var large Args
		for range MaxArgs/8 + 1 {
			large.U64(1)
		}
		require.Equal(t, MaxArgs+8, large.Len())
		fail := func(v any, err error) error { return err }
		for _, c := range []struct {
			err  error
			text string
		}{
			{fail(c.Alloc(0)), "allocating 0 bytes of device memory, want at least 1"},
			{fail(c.AllocHost(-1)), "allocating -1 bytes of pinned memory, want at least 1"},
			{c.CopyToDevice(p, h, 8, 3, st), "3 bytes from offset 8 do not lie in pinned memory of 10"},
			{c.CopyToDevice(p, h, -1, 3, st), "3 bytes from offset -1 do not lie"},
			{c.CopyToHost(h, 0, p, 11, st), "11 bytes from offset 0 do not lie"},
			{c.CopyToHost(h, 0, p, -1, st), "-1 bytes from offset 0 do not lie"},
			{c.CopyDevice(p, p, -1, st), "copying -1 bytes"},
			{c.Memset8(p, 0, -1, st), "setting -1 elements"},
			{c.Memset32(p, 0, 1, nil), "no stream: closed"},
			{c.Memset8(p, 0, 1, gone), "stream: closed"},
			{c.Launch(f, one, gone, nil), "stream: closed"},
			{c.Launch(f, one, nil, nil), "no stream: closed"},
			{c.Launch(nil, one, st, nil), "no kernel: closed"},
			{c.Launch(f, one, st, &large), "kernel add: 4104 bytes of arguments, want at most 4096"},
			{f.SetMaxDynamicShared(232449), "kernel add: 232449 bytes of shared memory, want 0 to 232448 on this device"},
			{e.Record(nil), "no stream: closed"},
			{st.Wait(nil), "no event: closed"},
			{c.Free(p + 1), "closed, or never allocated"},
			{fail(c.LoadModule("a\x00b")), "PTX holds a zero byte"},
			{fail((&Module{r: f.module}).Function("")), `kernel name "", want the name of an .entry`},
		} {
			require.ErrorContains(t, c.err, c.text)
		}
		require.NoError(t, c.CopyToDevice(p, h, 10, 0, st))
		require.Equal(t, []string{""}, s.log())
		require.NoError(t, c.Free(p))
		require.ErrorIs(t, c.Free(p), ErrClosed)
	})
}

func TestOutOfMemory(t *testing.T) {
	s := newStub(t, "memory=100000")
	dev := s.open(0)
	inside(t, dev, func(c *Context) {
		_, err := c.Alloc(60000)
		require.NoError(t, err)
		_, err = c.Alloc(40001)
		require.ErrorIs(t, err, ErrOutOfMemory)
		require.EqualError(t, err, "40001 bytes of device memory, where 40000 of 100000 are free: cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY (2): out of memory")
		_, err = NewArena(c, 40001)
		require.ErrorIs(t, err, ErrOutOfMemory)
		_, err = c.Alloc(40000)
		require.NoError(t, err, "a failed allocation leaves the device as it was")
	})
	require.NoError(t, dev.Close())

	s.configure("fail=cuMemHostAlloc:2")
	inside(t, s.open(0), func(c *Context) {
		_, err := c.AllocHost(5)
		require.ErrorIs(t, err, ErrOutOfMemory)
		require.EqualError(t, err, "5 bytes of pinned memory: cuMemHostAlloc: CUDA_ERROR_OUT_OF_MEMORY (2): out of memory")
	})
	s.configure("fail=cuMemHostGetDevicePointer_v2:201")
	inside(t, s.open(0), func(c *Context) {
		_, err := c.AllocHost(5)
		require.ErrorContains(t, err, "mapping 5 bytes of pinned memory: cuMemHostGetDevicePointer_v2")
		require.Equal(t, "cuMemFreeHost", s.log()[2], "the memory is given back")
	})
}

func TestArena(t *testing.T) {
	s := newStub(t, "")
	inside(t, s.open(0), func(c *Context) {
		sizes := []int64{1, 256, 257, 1000}
		a, err := NewArena(c, ArenaSize(sizes...))
		require.NoError(t, err)
		require.Equal(t, int64(256+256+512+1000), a.Size())
		var first, last Ptr
		for i, n := range sizes {
			p, err := a.Alloc(n)
			require.NoError(t, err)
			require.Zero(t, uint64(p)%256)
			if i == 0 {
				first = p
			} else {
				require.Greater(t, p, last)
			}
			last = p
		}
		require.Equal(t, Ptr(1024), last-first)
		require.Equal(t, a.Size(), a.Used())
		_, err = a.Alloc(1)
		require.ErrorIs(t, err, ErrOutOfMemory)
		require.EqualError(t, err, "out of memory: 1 bytes of an arena of which 2024 of 2024 are used; plan for more")
		_, err = a.Alloc(0)
		require.ErrorContains(t, err, "want at least 1")
		_, err = a.Alloc(1 << 62)
		require.ErrorIs(t, err, ErrOutOfMemory)
		s.log()
		require.NoError(t, a.Close())
		require.NoError(t, a.Close())
		require.Equal(t, []string{"cuMemFree_v2"}, s.log())
		_, err = a.Alloc(1)
		require.ErrorIs(t, err, ErrClosed)
	})
	require.Zero(t, ArenaSize())
}

func TestModuleErrors(t *testing.T) {
	s := newStub(t, "")
	inside(t, s.open(0), func(c *Context) {
		_, err := c.LoadModule(strings.Replace(testPTX, "ret;", "nonsense;", 1))
		e, ok := errors.AsType[*ModuleError](err)
		require.True(t, ok)
		require.Equal(t, "ptxas application ptx input, line 9; fatal   : Parsing error near 'nonsense': syntax error", e.ErrorLog)
		require.ErrorContains(t, err, "cuModuleLoadDataEx: CUDA_ERROR_INVALID_PTX (218): a PTX JIT compilation failed; the device is of compute capability 9.0: the .target")
		require.ErrorContains(t, err, "\nptxas application")
		m, err := c.LoadModule(testPTX)
		require.NoError(t, err)
		_, err = m.Function("subtract")
		require.EqualError(t, err, "kernel subtract: cuModuleGetFunction: CUDA_ERROR_NOT_FOUND (500): named symbol not found")
		f, err := m.Function("add")
		require.NoError(t, err)
		require.NoError(t, m.Unload())
		_, err = f.Attributes()
		require.ErrorIs(t, err, ErrClosed)
		_, err = m.Function("add")
		require.ErrorIs(t, err, ErrClosed)
	})
	// Several, beside each other, each on a thread that has the context; one that is refused takes the others with it.
	s.configure("")
	inside(t, s.open(0), func(c *Context) {
		other := strings.Replace(testPTX, ".entry add(", ".entry plus(", 1)
		texts := []string{testPTX, other, testPTX, other, testPTX}
		modules, err := c.LoadModules(texts...)
		require.NoError(t, err)
		require.Len(t, modules, len(texts))
		for i, m := range modules {
			_, err := m.Function([]string{"add", "plus"}[i%2])
			require.NoError(t, err)
		}
		s.log()
		_, err = c.LoadModules(testPTX, strings.Replace(testPTX, "ret;", "nonsense;", 1), other)
		require.ErrorContains(t, err, "Parsing error near 'nonsense'")
		require.Equal(t, 2, strings.Count(strings.Join(s.log(), " "), "cuModuleUnload"))
	})
	s.configure("fail=cuCtxSetCurrent:46:2")
	inside(t, s.open(0), func(c *Context) {
		_, err := c.LoadModules(testPTX, testPTX)
		require.ErrorContains(t, err, "cuCtxSetCurrent: CUDA_ERROR_DEVICE_UNAVAILABLE (46)")
	})
	s.configure("version=12020 fail=cuModuleLoadDataEx:222")
	inside(t, s.open(0), func(c *Context) {
		_, err := c.LoadModule(testPTX)
		require.ErrorContains(t, err, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222)")
		require.ErrorContains(t, err, "the driver speaks CUDA 12.2: install a newer NVIDIA driver")
	})
}

func TestBrokenCapture(t *testing.T) {
	s := newStub(t, "")
	inside(t, s.open(0), func(c *Context) {
		st := stream(t, c)
		require.NoError(t, st.BeginCapture())
		require.ErrorContains(t, st.Synchronize(), "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED (900)")
		_, err := st.EndCapture()
		require.EqualError(t, err, "the capture was broken by a call that cannot be captured")
		require.NoError(t, st.Synchronize())
	})
}

// TestLaunchFails: the error names the kernel and its shape, and the device is lost.
func TestLaunchFails(t *testing.T) {
	s := newStub(t, "fail=cuLaunchKernelEx:719")
	dev := s.open(0)
	inside(t, dev, func(c *Context) {
		st, f := stream(t, c), kernel(t, c)
		err := c.Launch(f, &LaunchConfig{Grid: [3]uint32{3}, Block: [3]uint32{64}, Shared: 10}, st, nil)
		require.ErrorIs(t, err, ErrLost)
		require.EqualError(t, err, "kernel add, grid [3 1 1], block [64 1 1], 10 bytes of shared memory: cuLaunchKernelEx: CUDA_ERROR_LAUNCH_FAILED (719): unspecified launch failure")
	})
	ran := false
	err := dev.Do(func(*Context) error { ran = true; return nil })
	require.False(t, ran)
	require.ErrorIs(t, err, ErrLost)
	require.EqualError(t, err, "device 0: the device is lost: cuLaunchKernelEx: CUDA_ERROR_LAUNCH_FAILED (719): unspecified launch failure; close it and start the program again")
	err = dev.Close()
	require.ErrorIs(t, err, ErrLost)
	require.Contains(t, s.log(), "cuDevicePrimaryCtxRelease_v2(0)", "the teardown goes on after errors")
	require.NoError(t, dev.Close())
}

// TestNoAllocation: a decode step leaves nothing to the garbage collector.
func TestNoAllocation(t *testing.T) {
	s := newStub(t, "")
	dev := s.open(0)
	var args Args
	cfg := LaunchConfig{Grid: [3]uint32{1}, Block: [3]uint32{1}, Programmatic: true}
	inside(t, dev, func(c *Context) {
		st, f := stream(t, c), kernel(t, c)
		e, err := c.NewEvent(true)
		require.NoError(t, err)
		h, err := c.AllocHost(64)
		require.NoError(t, err)
		p, err := c.Alloc(64)
		require.NoError(t, err)
		require.NoError(t, st.BeginCapture())
		g, err := st.EndCapture()
		require.NoError(t, err)
		x, err := g.Instantiate()
		require.NoError(t, err)
		var failed error
		for name, call := range map[string]func() error{
			"launch": func() error {
				return c.Launch(f, &cfg, st, args.Reset().Ptr(p).U32(1).I32(2).F32(3).U64(4))
			},
			"graph":          func() error { return x.Launch(st) },
			"copy to device": func() error { return c.CopyToDevice(p, h, 0, 64, st) },
			"copy to host":   func() error { return c.CopyToHost(h, 0, p, 64, st) },
			"copy":           func() error { return c.CopyDevice(p, p+32, 32, st) },
			"memset":         func() error { return errors.Join(c.Memset8(p, 1, 64, st), c.Memset32(p, 1, 16, st)) },
			"record":         func() error { return e.Record(st) },
			"wait":           func() error { return st.Wait(e) },
			"query":          func() error { _, err := e.Query(); return err },
			"synchronize":    func() error { return errors.Join(e.Synchronize(), st.Synchronize()) },
		} {
			allocs := testing.AllocsPerRun(100, func() {
				if err := call(); err != nil {
					failed = err
				}
			})
			require.NoError(t, failed)
			require.Zero(t, allocs, name)
		}
	})
	require.Zero(t, testing.AllocsPerRun(100, func() { dev.Do(nothing) }))
}

func nothing(*Context) error { return nil }

// TestHostBytesAreTheDriversMemory: Go writes where the device reads.
func TestHostBytesAreTheDriversMemory(t *testing.T) {
	s := newStub(t, "")
	dev := s.open(0)
	inside(t, dev, func(c *Context) {
		st := stream(t, c)
		h, err := c.AllocHost(4096)
		require.NoError(t, err)
		back, err := c.AllocHost(4096)
		require.NoError(t, err)
		want := bytes.Repeat([]byte{1, 2, 3, 250}, 1024)
		copy(h.Bytes(), want)
		require.NoError(t, c.CopyToHost(back, 0, h.DevicePtr(), 4096, st))
		require.NoError(t, st.Synchronize())
		require.Equal(t, want, back.Bytes())
	})
}

func BenchmarkLaunch(b *testing.B) {
	d, err := Load(cudastub.Build(b))
	require.NoError(b, err)
	dev, err := d.Open(0)
	require.NoError(b, err)
	defer dev.Close()
	require.NoError(b, dev.Do(func(c *Context) error {
		st, err := c.NewStream()
		if err != nil {
			return err
		}
		m, err := c.LoadModule(testPTX)
		if err != nil {
			return err
		}
		f, err := m.Function("add")
		if err != nil {
			return err
		}
		var args Args
		cfg := LaunchConfig{Grid: [3]uint32{1}, Block: [3]uint32{1}}
		for b.Loop() {
			if err := c.Launch(f, &cfg, st, args.Reset().Ptr(1).Ptr(2).U32(3)); err != nil {
				return err
			}
		}
		return nil
	}))
}

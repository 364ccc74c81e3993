//go:build linux && (amd64 || arm64) && !nocuda

package driver

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

//go:embed testdata/add.ptx
var addPTX string

// openReal opens the first device of the machine. Where there is none the test is
// skipped, or fails where TRITTER_REQUIRE names cuda.
func openReal(t *testing.T) *Device {
	d, err := Load("")
	if errors.Is(err, ErrNoDriver) || errors.Is(err, ErrNoDevice) {
		if slices.Contains(strings.Split(os.Getenv("TRITTER_REQUIRE"), ","), "cuda") {
			t.Fatalf("TRITTER_REQUIRE names cuda: %v", err)
		}
		t.Skipf("needs a GPU: %v", err)
	}
	require.NoError(t, err)
	dev, err := d.Open(0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dev.Close()) })
	t.Logf("%s, CUDA %s, %+v", dev.Info.Name, VersionString(d.Version()), dev.Info)
	return dev
}

// TestRealDevice does with a GPU what the stub only pretends: a kernel computes,
// launched plainly, with each attribute, and from a graph.
func TestRealDevice(t *testing.T) {
	dev := openReal(t)
	const n, threads = 1000, 256
	inside(t, dev, func(c *Context) {
		free, total, err := c.MemInfo()
		require.NoError(t, err)
		require.Greater(t, total, free)
		require.Greater(t, free, int64(1<<20))
		m, err := c.LoadModule(addPTX)
		require.NoError(t, err)
		f, err := m.Function("add")
		require.NoError(t, err)
		attr, err := f.Attributes()
		require.NoError(t, err)
		require.Positive(t, attr.Registers)
		require.NoError(t, f.SetMaxDynamicShared(dev.Info.SharedPerBlockOptin))
		blocks, err := f.ActiveBlocksPerSM(threads, 0)
		require.NoError(t, err)
		require.Positive(t, blocks)

		st := stream(t, c)
		h, err := c.AllocHost(4 * n)
		require.NoError(t, err)
		arena, err := NewArena(c, ArenaSize(4*n, 4*n))
		require.NoError(t, err)
		y, err := arena.Alloc(4 * n)
		require.NoError(t, err)
		x, err := arena.Alloc(4 * n)
		require.NoError(t, err)
		for i := range n {
			binary.LittleEndian.PutUint32(h.Bytes()[4*i:], math.Float32bits(float32(i)))
		}
		require.NoError(t, c.Memset32(y, math.Float32bits(0.5), n, st))
		require.NoError(t, c.CopyToDevice(x, h, 0, 4*n, st))

		var args Args
		cfg := LaunchConfig{Grid: [3]uint32{(n + threads - 1) / threads}, Block: [3]uint32{threads}}
		times := 0
		launch := func() {
			require.NoError(t, c.Launch(f, &cfg, st, args.Reset().Ptr(y).Ptr(x).U32(n).F32(2)))
			times++
		}
		start, err := c.NewEvent(true)
		require.NoError(t, err)
		end, err := c.NewEvent(true)
		require.NoError(t, err)
		require.NoError(t, start.Record(st))
		launch()
		cfg.Cooperative = true
		launch()
		cfg.Cooperative = false
		require.NoError(t, st.Synchronize()) // the kernel does not wait for the one before, as a programmatic one must
		if cfg.Programmatic = dev.Info.Major >= 9; cfg.Programmatic {
			launch()
		}
		cfg.Programmatic = false
		require.NoError(t, st.BeginCapture())
		launch()
		launch()
		g, err := st.EndCapture()
		require.NoError(t, err)
		exec, err := g.Instantiate()
		require.NoError(t, err)
		require.NoError(t, g.Destroy())
		require.NoError(t, exec.Launch(st))
		require.NoError(t, exec.Launch(st))
		times += 2
		require.NoError(t, end.Record(st))
		require.NoError(t, c.CopyToHost(h, 0, y, 4*n, st))
		require.NoError(t, st.Synchronize())
		done, err := end.Query()
		require.NoError(t, err)
		require.True(t, done)
		ms, err := end.ElapsedSince(start)
		require.NoError(t, err)
		require.Positive(t, ms)
		for i := range n {
			got := math.Float32frombits(binary.LittleEndian.Uint32(h.Bytes()[4*i:]))
			require.Equal(t, 0.5+float32(2*times*i), got, i)
		}
		_, err = c.Alloc(total)
		require.ErrorIs(t, err, ErrOutOfMemory)
		_, err = c.LoadModule(strings.Replace(addPTX, "mad.lo.s32", "mad.nonsense", 1))
		me, ok := errors.AsType[*ModuleError](err)
		require.True(t, ok)
		require.Contains(t, me.ErrorLog, "nonsense")
	})
}

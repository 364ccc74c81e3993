package runtime_test

import (
	"errors"
	"os"
	goruntime "runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/internal/cudastub"
	"github.com/tritter-ai/tritter/kernels/cuda/driver"
	"github.com/tritter-ai/tritter/runtime"
)

func TestCheckDevice(t *testing.T) {
	for _, name := range []string{"auto", "cpu", "cuda", "cuda:0", "cuda:17"} {
		require.NoError(t, runtime.CheckDevice(name))
	}
	for _, name := range []string{"", "tpu", "CPU", "cuda:", "cuda:-1", "cuda:+1", "cuda:01", "cuda:x", "cuda:70000", "cpu:0"} {
		require.EqualError(t, runtime.CheckDevice(name), `device "`+name+`", want auto, cpu, cuda, or cuda:N for the N-th CUDA device from 0`)
	}
	_, _, err := runtime.OpenEngine(nil, runtime.Options{}, "tpu")
	require.ErrorContains(t, err, `device "tpu"`)
	_, err = runtime.DeviceMemory("tpu")
	require.ErrorContains(t, err, `device "tpu"`)
}

// withoutDriver makes the library one that is not there.
func withoutDriver(t *testing.T) {
	t.Setenv(driver.LibraryEnv, t.TempDir()+"/libcuda.so.1")
}

// withStub makes the library the stand-in.
func withStub(t *testing.T, config string) {
	if _, err := driver.Load(t.TempDir() + "/none"); errors.Is(err, driver.ErrUnavailable) {
		t.Skip(err)
	}
	t.Setenv(driver.LibraryEnv, cudastub.Build(t))
	t.Setenv(cudastub.Env, config)
}

func TestOpenEngineWithoutDriver(t *testing.T) {
	withoutDriver(t)
	m := tiny(t, "bitnet")
	e, why, err := runtime.OpenEngine(m, runtime.Options{}, "cpu")
	require.NoError(t, err)
	require.NoError(t, why)
	require.NoError(t, e.Close())

	_, wanted := driver.Load("")
	e, why, err = runtime.OpenEngine(m, runtime.Options{}, "auto")
	require.NoError(t, err)
	require.Regexp(t, "^cpu/", e.Name())
	require.NoError(t, e.Close())
	if errors.Is(wanted, driver.ErrUnavailable) {
		require.NoError(t, why, "a build without CUDA was somebody's choice")
	} else {
		require.ErrorIs(t, wanted, driver.ErrNoDriver)
		require.EqualError(t, why, wanted.Error())
	}
	for _, device := range []string{"cuda", "cuda:1"} {
		_, _, err = runtime.OpenEngine(m, runtime.Options{}, device)
		require.EqualError(t, err, wanted.Error())
	}
	require.Equal(t, "cpu", runtime.OptimalDevice())
	list, cuda := runtime.Devices()
	require.Len(t, list, 1)
	require.Equal(t, runtime.CUDAInfo{Problem: wanted.Error()}, cuda)
}

func TestDevices(t *testing.T) {
	withStub(t, "devices=2 memory=5000 version=12080")
	list, cuda := runtime.Devices()
	require.Equal(t, runtime.CUDAInfo{Version: "12.8", Driver: cuda.Driver}, cuda)
	require.Len(t, list, 3)
	require.Equal(t, "cpu", list[0].Device)
	require.NotEmpty(t, list[0].Name)
	require.Equal(t, "ref", list[0].Kernels[0])
	require.Equal(t, goruntime.GOMAXPROCS(0), list[0].Cores)
	require.Equal(t, runtime.DeviceInfo{Device: "cuda:1", Name: "Stub 1", Cores: 132, Capability: "8.0", UUID: "GPU-10111213-1415-1617-1819-1a1b1c1d1e1f", PCI: "0000:19:00.0",
		Memory: &runtime.DeviceMemoryInfo{Total: 5000, Free: 5000}}, list[2])
	require.Equal(t, "cuda:0", runtime.OptimalDevice())
	m, err := runtime.DeviceMemory("cuda")
	require.NoError(t, err)
	require.Equal(t, runtime.DeviceMemoryInfo{Total: 5000, Free: 5000}, m)
	m, err = runtime.DeviceMemory("auto")
	require.NoError(t, err)
	require.Equal(t, int64(5000), m.Total)
	_, err = runtime.DeviceMemory("cuda:2")
	require.ErrorIs(t, err, driver.ErrNoDevice)
	_, _, err = runtime.OpenEngine(tiny(t, "bitnet"), runtime.Options{}, "cuda:2")
	require.EqualError(t, err, "cuda:2: no CUDA device of that number; there are 2, counted from 0")
}

// TestOldDevice: a device that the kernels are not compiled for is listed and not used.
func TestOldDevice(t *testing.T) {
	withStub(t, "devices=2 major=7")
	list, _ := runtime.Devices()
	require.Equal(t, "compute capability 7.0, want 8.0 or later", list[1].Problem)
	require.NotNil(t, list[1].Memory)
	require.Equal(t, "cpu", runtime.OptimalDevice())
	e, why, err := runtime.OpenEngine(tiny(t, "bitnet"), runtime.Options{}, "auto")
	require.NoError(t, err)
	require.NoError(t, e.Close())
	require.EqualError(t, why, "cuda:0 (Stub 0): compute capability 7.0, want 8.0 or later; cuda:1 (Stub 1): compute capability 7.0, want 8.0 or later")
	_, _, err = runtime.OpenEngine(tiny(t, "bitnet"), runtime.Options{}, "cuda:1")
	require.EqualError(t, err, "cuda:1 (Stub 1): compute capability 7.0, want 8.0 or later")
}

// TestBusyDevice: what keeps a device from telling its memory is said in its place.
func TestBusyDevice(t *testing.T) {
	withStub(t, "fail=cuDevicePrimaryCtxRetain:46")
	list, cuda := runtime.Devices()
	require.Empty(t, cuda.Problem)
	require.Nil(t, list[1].Memory)
	require.Equal(t, "device 0: cuDevicePrimaryCtxRetain: CUDA_ERROR_DEVICE_UNAVAILABLE (46): CUDA-capable device(s) is/are busy or unavailable", list[1].Problem)
}

func TestNoDevice(t *testing.T) {
	withStub(t, "devices=0")
	list, cuda := runtime.Devices()
	require.Len(t, list, 1)
	require.Contains(t, cuda.Problem, "no CUDA device: the driver is loaded and finds none")
	_, _, err := runtime.OpenEngine(tiny(t, "bitnet"), runtime.Options{}, "cuda")
	require.ErrorIs(t, err, driver.ErrNoDevice)
}

func TestHostMemory(t *testing.T) {
	m, err := runtime.DeviceMemory("cpu")
	if _, statErr := os.Stat("/proc/meminfo"); statErr != nil {
		require.ErrorIs(t, err, errors.ErrUnsupported)
		return
	}
	require.NoError(t, err)
	require.Greater(t, m.Free, int64(1<<20))
	require.Greater(t, m.Total, m.Free)
	require.Equal(t, m.Total, m.Free+m.Allocated)
}

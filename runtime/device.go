package runtime

import (
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"

	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/kernels/cuda/driver"
)

// Names of devices. A CUDA device is "cuda:N", numbered as the driver does.
const (
	DeviceAuto = "auto" // the first CUDA device that can run the model, or else the CPU
	DeviceCPU  = "cpu"
	DeviceCUDA = "cuda" // the first CUDA device that can run the model
)

// minMajor is the least compute capability, with a minor of 0, that the kernels are
// compiled for.
const minMajor = 8

// deviceName is a parsed name.
type deviceName struct {
	kind    string // DeviceAuto, DeviceCPU or DeviceCUDA
	ordinal int    // of a CUDA device; -1 is any
}

// parseDevice reads a name.
func parseDevice(name string) (deviceName, error) {
	switch name {
	case DeviceAuto, DeviceCPU, DeviceCUDA:
		return deviceName{name, -1}, nil
	}
	if digits, ok := strings.CutPrefix(name, DeviceCUDA+":"); ok {
		if n, err := strconv.ParseUint(digits, 10, 16); err == nil && strconv.FormatUint(n, 10) == digits {
			return deviceName{DeviceCUDA, int(n)}, nil
		}
	}
	return deviceName{}, fmt.Errorf("device %q, want auto, cpu, cuda, or cuda:N for the N-th CUDA device from 0", name)
}

// CheckDevice returns an error if name is not the name of a device. Whether the
// machine has it is another question.
func CheckDevice(name string) error {
	_, err := parseDevice(name)
	return err
}

// OpenEngine returns the engine that computes m on a device: "auto", "cpu", "cuda"
// or "cuda:N". With auto, whatever keeps CUDA from being used leads to the CPU, and
// why says it, in one line; it is nil when there is nothing to say, also where this
// build has no CUDA at all. Errors of CUDA are those of [NewCUDA].
func OpenEngine(m *Model, opt Options, device string) (e Engine, why, err error) {
	name, err := parseDevice(device)
	if err != nil {
		return nil, nil, err
	}
	if name.kind != DeviceCPU {
		e, err = openCUDA(m, opt, name.ordinal)
		switch {
		case err == nil:
			return e, nil, nil
		case name.kind == DeviceCUDA:
			return nil, nil, err
		case !errors.Is(err, driver.ErrUnavailable):
			why = err
		}
	}
	e, err = NewCPU(m, opt)
	if err != nil {
		return nil, nil, err
	}
	return e, why, nil
}

// openCUDA returns an engine on the device of that number, or with -1 on the first
// that can.
func openCUDA(m *Model, opt Options, ordinal int) (Engine, error) {
	infos, err := cudaDevices()
	if err != nil {
		return nil, err
	}
	if ordinal >= len(infos) {
		return nil, fmt.Errorf("cuda:%d: %w of that number; there are %d, counted from 0", ordinal, driver.ErrNoDevice, len(infos))
	}
	var errs []error
	for _, info := range infos {
		if ordinal >= 0 && info.Ordinal != ordinal {
			continue
		}
		err := usable(info)
		if err == nil {
			opt.Device = info.Ordinal
			var e Engine
			if e, err = NewCUDA(m, opt); err == nil {
				return e, nil
			}
		}
		errs = append(errs, fmt.Errorf("cuda:%d (%s): %w", info.Ordinal, info.Name, err))
	}
	return nil, joined(errs)
}

// joined is errors.Join in one line.
func joined(errs []error) error {
	err := errs[0]
	for _, next := range errs[1:] {
		err = fmt.Errorf("%w; %w", err, next)
	}
	return err
}

// cudaDevices returns at least one device, or why there is none.
func cudaDevices() ([]driver.Info, error) {
	d, err := driver.Load("")
	if err != nil {
		return nil, err
	}
	infos, err := d.Devices()
	if err == nil && len(infos) == 0 {
		err = driver.ErrNoDevice
	}
	return infos, err
}

// usable returns why a device cannot run the kernels.
func usable(info driver.Info) error {
	if info.Major < minMajor {
		return fmt.Errorf("compute capability %d.%d, want %d.0 or later", info.Major, info.Minor, minMajor)
	}
	return nil
}

// OptimalDevice names the device that fits best whatever model: the first usable CUDA
// device, or "cpu".
func OptimalDevice() string {
	infos, _ := cudaDevices() // no devices where there is an error
	for _, info := range infos {
		if usable(info) == nil {
			return fmt.Sprintf("%s:%d", DeviceCUDA, info.Ordinal)
		}
	}
	return DeviceCPU
}

// DeviceInfo describes a device.
type DeviceInfo struct {
	Device     string   `json:"device"`                       // "cpu", "cuda:0"
	Name       string   `json:"name"`                         // of the product
	Cores      int      `json:"cores"`                        // threads that Go may use, or streaming multiprocessors
	Capability string   `json:"compute_capability,omitempty"` // "9.0", of a CUDA device
	Kernels    []string `json:"kernels,omitempty"`            // implementations of the CPU, the fastest last
	UUID       string   `json:"uuid,omitempty"`
	PCI        string   `json:"pci,omitempty"`
	// Memory is nil where the system does not tell; Problem says why, or what else
	// keeps the device from being used.
	Memory  *DeviceMemoryInfo `json:"memory,omitempty"`
	Problem string            `json:"problem,omitempty"`
}

// DeviceMemoryInfo is the memory of a device in bytes, as all processes share it.
type DeviceMemoryInfo struct {
	Total     int64 `json:"total"`
	Allocated int64 `json:"allocated"`
	Free      int64 `json:"free"`
}

// CUDAInfo describes the driver.
type CUDAInfo struct {
	Version string `json:"version,omitempty"` // newest CUDA version that it speaks: "13.0"
	Driver  string `json:"driver,omitempty"`  // release, where the system tells: "580.65.06"
	Problem string `json:"problem,omitempty"` // why there are no CUDA devices
}

// Devices lists the CPU and the CUDA devices of the machine. Asking a CUDA device for
// its free memory takes some tenths of a second.
func Devices() ([]DeviceInfo, CUDAInfo) {
	cpuInfo := DeviceInfo{Device: DeviceCPU, Name: processorName(), Cores: goruntime.GOMAXPROCS(0)}
	for _, ops := range cpu.Implementations() {
		cpuInfo.Kernels = append(cpuInfo.Kernels, ops.Name())
	}
	cpuInfo.Memory, cpuInfo.Problem = memoryOrProblem(DeviceCPU)
	list := []DeviceInfo{cpuInfo}

	d, err := driver.Load("")
	if err != nil {
		return list, CUDAInfo{Problem: err.Error()}
	}
	cuda := CUDAInfo{Version: driver.VersionString(d.Version()), Driver: d.Release()}
	infos, err := d.Devices()
	switch {
	case err != nil:
		cuda.Problem = err.Error()
	case len(infos) == 0:
		cuda.Problem = driver.ErrNoDevice.Error()
	}
	for _, info := range infos {
		i := DeviceInfo{Device: fmt.Sprintf("%s:%d", DeviceCUDA, info.Ordinal), Name: info.Name, Cores: info.SMs,
			Capability: fmt.Sprintf("%d.%d", info.Major, info.Minor), UUID: info.UUID, PCI: info.PCI}
		i.Memory, i.Problem = memoryOrProblem(i.Device)
		if err := usable(info); err != nil {
			i.Problem = err.Error()
		}
		list = append(list, i)
	}
	return list, cuda
}

func memoryOrProblem(device string) (*DeviceMemoryInfo, string) {
	m, err := DeviceMemory(device)
	if err != nil {
		return nil, err.Error()
	}
	return &m, ""
}

// DeviceMemory returns the memory of a device: "cpu", "cuda:N", or "cuda" for the
// first. Free is what can be had without swapping. The error for cpu is of the kind
// errors.ErrUnsupported on systems that do not tell (HostMemory).
func DeviceMemory(device string) (m DeviceMemoryInfo, err error) {
	name, err := parseDevice(device)
	switch {
	case err != nil:
		return m, err
	case name.kind == DeviceAuto:
		return DeviceMemory(OptimalDevice())
	case name.kind == DeviceCPU:
		m.Total, m.Free, err = HostMemory()
	default:
		m.Total, m.Free, err = cudaMemory(max(name.ordinal, 0))
	}
	m.Allocated = m.Total - m.Free
	return m, err
}

func cudaMemory(ordinal int) (total, free int64, err error) {
	d, err := driver.Load("")
	if err != nil {
		return 0, 0, err
	}
	dev, err := d.Open(ordinal)
	if err != nil {
		return 0, 0, err
	}
	err = dev.Do(func(c *driver.Context) error {
		free, total, err = c.MemInfo()
		return err
	})
	return total, free, errors.Join(err, dev.Close())
}

// procField finds the first row "name : value" of a file of /proc.
func procField(text, name string) string {
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// processorName returns the name of the CPU, or at least its architecture.
func processorName() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		if name := procField(string(data), "model name"); name != "" {
			return name
		}
	}
	return goruntime.GOARCH
}

package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/tritter-ai/tritter/kernels/cuda/driver"
	"github.com/tritter-ai/tritter/runtime"
)

// DeviceFlag is the --device flag.
type DeviceFlag struct {
	Device Device `help:"Where to compute: auto, cpu, cuda, or cuda:N for the N-th GPU. Does not change the result." placeholder:"auto" default:"auto" env:"TRITTER_DEVICE"`
}

// Device is the name of a device.
type Device string

// UnmarshalText refuses what is no name of a device. An empty text, as of an
// environment variable that is set to nothing, is auto.
func (d *Device) UnmarshalText(text []byte) error {
	*d = Device(text)
	if *d == "" {
		*d = runtime.DeviceAuto
	}
	return runtime.CheckDevice(string(*d))
}

// OpenEngine opens an engine on the device. What the user should know of the
// choice goes to standard error.
func (d *DeviceFlag) OpenEngine(program string, m *runtime.Model, opt runtime.Options) (runtime.Engine, error) {
	e, why, err := runtime.OpenEngine(m, opt, string(d.Device))
	if err != nil && d.Device != runtime.DeviceAuto && d.Device != runtime.DeviceCPU {
		return nil, fmt.Errorf("--device %s: %w; --device cpu uses the CPU", d.Device, err)
	}
	if err != nil {
		return nil, err
	}
	// A machine without NVIDIA's driver has no GPU that its owner would miss: a pipe
	// is not told.
	if why != nil && (IsTerminal(os.Stderr) || !errors.Is(why, driver.ErrNoDriver)) {
		reason, _, _ := strings.Cut(why.Error(), "\n")
		fmt.Fprintf(os.Stderr, "%s: the CPU computes: %s (--device cpu asks for it)\n", program, reason)
	}
	return e, nil
}

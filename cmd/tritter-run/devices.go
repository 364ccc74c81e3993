package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/tritter-ai/tritter/internal/cli"
	"github.com/tritter-ai/tritter/runtime"
)

type devicesCommand struct {
	JSON bool `name:"json" help:"Print JSON, sizes in bytes."`
}

// devicesReport is what the command prints.
type devicesReport struct {
	Devices []runtime.DeviceInfo `json:"devices"`
	CUDA    runtime.CUDAInfo     `json:"cuda"`
	Auto    string               `json:"auto"` // what --device auto tries first
}

// Run lists the devices.
func (c *devicesCommand) Run() error {
	r := devicesReport{Auto: runtime.OptimalDevice()}
	r.Devices, r.CUDA = runtime.Devices()
	if c.JSON {
		return cli.PrintJSON(r, "")
	}
	return r.print()
}

func (r *devicesReport) print() error {
	return cli.Print(func(out io.Writer) {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "DEVICE\tNAME\tUNITS\tMEMORY\tFREE\t")
		for _, d := range r.Devices {
			total, free, units := "?", "?", fmt.Sprintf("%d threads: %s", d.Cores, strings.Join(d.Kernels, ", "))
			if m := d.Memory; m != nil {
				total, free = cli.Bytes(m.Total), cli.Bytes(m.Free)
			}
			if d.Capability != "" {
				units = fmt.Sprintf("%d SMs, compute capability %s", d.Cores, d.Capability)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", d.Device, d.Name, units, total, free, d.Problem)
		}
		w.Flush() // out keeps its error
		switch {
		case r.CUDA.Problem != "":
			fmt.Fprintf(out, "CUDA: %s\n", r.CUDA.Problem)
		case r.CUDA.Driver != "":
			fmt.Fprintf(out, "NVIDIA driver %s, CUDA %s\n", r.CUDA.Driver, r.CUDA.Version)
		default:
			fmt.Fprintf(out, "NVIDIA driver for CUDA %s\n", r.CUDA.Version)
		}
	})
}

package driver_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"math"

	"github.com/tritter-ai/tritter/kernels/cuda/driver"
)

// Example adds 1 to a vector on the first GPU, if there is one.
func Example() {
	const ptx = `.version 7.8
.target sm_80
.address_size 64
.visible .entry increment(.param .u64 x, .param .f32 by)
{
	.reg .u32 %r1;
	.reg .u64 %d1, %d2, %d3;
	.reg .f32 %f1, %f2;
	ld.param.u64 %d1, [x];
	ld.param.f32 %f1, [by];
	mov.u32 %r1, %tid.x;
	mul.wide.u32 %d2, %r1, 4;
	add.u64 %d3, %d1, %d2;
	ld.global.f32 %f2, [%d3];
	add.rn.f32 %f2, %f2, %f1;
	st.global.f32 [%d3], %f2;
	ret;
}`
	d, err := driver.Load("")
	if errors.Is(err, driver.ErrNoDriver) || errors.Is(err, driver.ErrNoDevice) || errors.Is(err, driver.ErrUnavailable) {
		return // compute on the CPU
	}
	if err != nil {
		log.Fatal(err)
	}
	dev, err := d.Open(0)
	if err != nil {
		log.Fatal(err)
	}
	defer dev.Close()
	err = dev.Do(func(c *driver.Context) error {
		m, err := c.LoadModule(ptx)
		if err != nil {
			return err
		}
		f, err := m.Function("increment")
		if err != nil {
			return err
		}
		s, err := c.NewStream()
		if err != nil {
			return err
		}
		const n = 32
		x, err := c.Alloc(4 * n)
		if err != nil {
			return err
		}
		h, err := c.AllocHost(4 * n)
		if err != nil {
			return err
		}
		for i := range n {
			binary.LittleEndian.PutUint32(h.Bytes()[4*i:], math.Float32bits(float32(i)))
		}
		var args driver.Args
		err = errors.Join(
			c.CopyToDevice(x, h, 0, 4*n, s),
			c.Launch(f, &driver.LaunchConfig{Grid: [3]uint32{1}, Block: [3]uint32{n}}, s, args.Reset().Ptr(x).F32(1)),
			c.CopyToHost(h, 0, x, 4*n, s),
			s.Synchronize(),
		)
		if err == nil {
			fmt.Println(math.Float32frombits(binary.LittleEndian.Uint32(h.Bytes()[4*(n-1):])))
		}
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}

// ExampleArgs packs what a kernel with .param .u64, .u32, .u64 takes: the third
// parameter begins at a multiple of its size.
func ExampleArgs() {
	var args driver.Args
	args.Ptr(0x1000).U32(7).U64(9)
	fmt.Printf("%d bytes: % x\n", args.Len(), args.Bytes())
	// Output: 24 bytes: 00 10 00 00 00 00 00 00 07 00 00 00 00 00 00 00 09 00 00 00 00 00 00 00
}

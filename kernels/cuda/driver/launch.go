package driver

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"
)

// LaunchConfig is the shape of a launch.
type LaunchConfig struct {
	Grid, Block [3]uint32 // blocks, and threads a block; 0 in y and z counts as 1
	Shared      uint32    // dynamic shared memory, bytes a block

	// Programmatic lets the kernel start while the one before it in the stream
	// still runs (programmatic dependent launch); it must execute
	// griddepcontrol.wait before it reads what that one writes. For sm_90 and later.
	Programmatic bool
	// Cooperative starts only if all blocks fit on the device at once, so that
	// they may wait for each other.
	Cooperative bool
}

// launchConfig is CUlaunchConfig.
type launchConfig struct {
	grid, block [3]uint32
	shared      uint32
	_           uint32
	stream      uintptr
	attrs       uintptr
	numAttrs    uint32
	_           uint32
}

// launchAttribute is CUlaunchAttribute: an id, padding, and a union of 64 bytes.
type launchAttribute struct {
	id    uint32
	_     uint32
	value [16]uint32
}

// Values of CUlaunchAttributeID, and of the list that names packed parameters.
const (
	attrCooperative  = 2
	attrProgrammatic = 6

	launchEnd           = 0
	launchBufferPointer = 1
	launchBufferSize    = 2
)

// MaxArgs is the most bytes that the arguments of a kernel may take.
const MaxArgs = 4096

// Args packs the arguments of a kernel as its .param list lays them out: in order,
// each aligned to its own size. The zero value is empty; Reset and fill it again
// rather than make another. Methods return their receiver, to be chained.
type Args struct {
	n     int
	buf   [MaxArgs]byte
	count int
	at    [MaxArgs / 4]uint16 // where each argument begins
}

// Reset makes the list empty.
func (a *Args) Reset() *Args {
	a.n, a.count = 0, 0
	return a
}

// Len returns the bytes packed. More than MaxArgs are refused by Launch.
func (a *Args) Len() int { return a.n }

// Bytes returns the packed arguments, valid until the next change.
func (a *Args) Bytes() []byte { return a.buf[:min(a.n, MaxArgs)] }

// place makes room for an argument of size bytes. Past the end it only counts.
func (a *Args) place(size int) []byte {
	end := a.n
	at := (end + size - 1) / size * size
	a.n = at + size
	if a.n > MaxArgs {
		return make([]byte, size)
	}
	clear(a.buf[end:at]) // padding is zero, whatever was there before
	a.at[a.count] = uint16(at)
	a.count++
	return a.buf[at:a.n]
}

// Ptr appends an address on the device.
func (a *Args) Ptr(p Ptr) *Args { return a.U64(uint64(p)) }

// U64 appends an integer of 64 bits.
func (a *Args) U64(v uint64) *Args {
	binary.LittleEndian.PutUint64(a.place(8), v)
	return a
}

// U32 appends an integer of 32 bits.
func (a *Args) U32(v uint32) *Args {
	binary.LittleEndian.PutUint32(a.place(4), v)
	return a
}

// I32 appends a signed integer of 32 bits.
func (a *Args) I32(v int32) *Args { return a.U32(uint32(v)) }

// F32 appends a float32.
func (a *Args) F32(v float32) *Args { return a.U32(math.Float32bits(v)) }

// Launch puts a kernel into the stream. cfg and args may be used again at once;
// args may be nil for a kernel without parameters. It does not allocate.
func (c *Context) Launch(f *Function, cfg *LaunchConfig, s *Stream, args *Args) error {
	kernel, err := f.use()
	if err != nil {
		return err
	}
	stream, err := s.use()
	if err != nil {
		return err
	}
	fr := c.d.frame
	l := &fr.config
	l.grid, l.block = [3]uint32{cfg.Grid[0], max(cfg.Grid[1], 1), max(cfg.Grid[2], 1)}, [3]uint32{cfg.Block[0], max(cfg.Block[1], 1), max(cfg.Block[2], 1)}
	l.shared, l.stream, l.numAttrs = cfg.Shared, stream, 0
	if cfg.Programmatic {
		l.attribute(fr, attrProgrammatic)
	}
	if cfg.Cooperative {
		l.attribute(fr, attrCooperative)
	}
	// SAFETY: everything that the call points to lies in the frame, which is pinned.
	extra, pointers := uintptr(0), uintptr(0)
	if args != nil && args.n > 0 {
		if args.n > MaxArgs {
			return fmt.Errorf("kernel %s: %d bytes of arguments, want at most %d", f.name, args.n, MaxArgs)
		}
		n := copy(fr.params[:], args.buf[:args.n])
		if cfg.Cooperative { // which the driver does not take with packed arguments
			for i, at := range args.at[:args.count] {
				fr.pointers[i] = uintptr(unsafe.Pointer(&fr.params[at]))
			}
			pointers = uintptr(unsafe.Pointer(&fr.pointers))
		} else {
			fr.size = uintptr(n)
			fr.extra = [5]uintptr{launchBufferPointer, uintptr(unsafe.Pointer(&fr.params)), launchBufferSize, uintptr(unsafe.Pointer(&fr.size)), launchEnd}
			extra = uintptr(unsafe.Pointer(&fr.extra))
		}
	}
	if err := c.d.call(cuLaunchKernelEx, uintptr(unsafe.Pointer(l)), kernel, pointers, extra); err != nil {
		return fmt.Errorf("kernel %s, grid %v, block %v, %d bytes of shared memory: %w", f.name, l.grid, l.block, l.shared, err)
	}
	return nil
}

// attribute switches an attribute of the launch on.
func (l *launchConfig) attribute(fr *frame, id uint32) {
	a := &fr.attrs[l.numAttrs]
	a.id, a.value[0] = id, 1
	l.attrs = uintptr(unsafe.Pointer(&fr.attrs))
	l.numAttrs++
}

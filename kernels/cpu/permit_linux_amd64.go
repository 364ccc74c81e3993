//go:build !purego

package cpu

import (
	"sync"
	"syscall"
)

// permitAMX asks the kernel, once, to let this process use tile registers, whose
// state is too large to be saved for everybody (arch_prctl(2)).
var permitAMX = sync.OnceValue(func() bool {
	const archReqXcompPerm, xfeatureXtiledata = 0x1023, 18
	_, _, errno := syscall.RawSyscall(syscall.SYS_ARCH_PRCTL, archReqXcompPerm, xfeatureXtiledata, 0)
	return errno == 0
})

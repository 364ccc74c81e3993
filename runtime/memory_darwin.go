package runtime

import (
	"encoding/binary"
	"fmt"
	"syscall"
)

// HostMemory returns how many bytes of memory this machine has. macOS does not say
// without cgo how many are free: available is all of them.
func HostMemory() (total, available int64, err error) {
	s, err := syscall.Sysctl("hw.memsize")
	if err != nil {
		return 0, 0, fmt.Errorf("memory of this machine: %w", err)
	}
	var b [8]byte // Sysctl takes the number for a string and drops a last zero byte
	copy(b[:], s)
	total = int64(binary.LittleEndian.Uint64(b[:]))
	return total, total, nil
}

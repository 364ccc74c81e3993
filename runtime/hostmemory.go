package runtime

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
)

// HostMemory returns the bytes of memory of this machine, and those that programs
// can still have without swapping. The error says that the system does not tell.
func HostMemory() (total, available int64, err error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, 0, fmt.Errorf("the memory of this machine is not known: %w", err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ":")
		var kib int64
		if _, err := fmt.Sscan(value, &kib); err != nil {
			continue
		}
		switch name {
		case "MemTotal":
			total = kib << 10
		case "MemAvailable":
			available = kib << 10
		}
	}
	if total == 0 || available == 0 {
		return 0, 0, errors.New("the memory of this machine is not known: /proc/meminfo does not tell it")
	}
	return total, available, nil
}

package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// HostMemory returns how many bytes of memory this process may use in all, and how
// many it can still have without swapping. Files in the page cache count as
// available. Limits of control groups (containers) apply.
func HostMemory() (total, available int64, err error) { return hostMemory(os.DirFS("/")) }

// hostMemory reads proc and sys of root.
func hostMemory(root fs.FS) (total, available int64, err error) {
	data, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0, 0, fmt.Errorf("memory of this machine: %w", err)
	}
	total, available = field(data, "MemTotal:")<<10, field(data, "MemAvailable:")<<10
	if total <= 0 || available <= 0 {
		return 0, 0, errors.New("memory of this machine: /proc/meminfo has no MemTotal or no MemAvailable")
	}
	groups, _ := fs.ReadFile(root, "proc/self/cgroup") // no control groups, no limits
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		v := cgroupFiles{base: "sys/fs/cgroup", max: "memory.max", current: "memory.current", cache: "file", shared: "shmem"}
		if parts[0] != "0" {
			if !strings.Contains(","+parts[1]+",", ",memory,") {
				continue
			}
			v = cgroupFiles{base: "sys/fs/cgroup/memory", max: "memory.limit_in_bytes", current: "memory.usage_in_bytes", cache: "total_cache", shared: "total_shmem"}
		}
		for path := filepath.Clean("/" + parts[2]); ; path = filepath.Dir(path) {
			if limit, free, ok := v.read(root, path); ok {
				total, available = min(total, limit), min(available, free)
			}
			if path == "/" {
				break
			}
		}
	}
	return total, max(available, 1), nil
}

// cgroupFiles are the names of a version of control groups.
type cgroupFiles struct{ base, max, current, cache, shared string }

// read returns the limit of a group and what is left of it.
func (v *cgroupFiles) read(root fs.FS, path string) (limit, free int64, ok bool) {
	number := func(name string) (int64, bool) {
		data, err := fs.ReadFile(root, filepath.Join(v.base, path, name))
		if err != nil {
			return 0, false
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64) // "max" is no number
		return n, err == nil
	}
	limit, ok = number(v.max)
	used, known := number(v.current)
	if !ok || !known {
		return 0, 0, false
	}
	if stat, err := fs.ReadFile(root, filepath.Join(v.base, path, "memory.stat")); err == nil {
		used -= max(field(stat, v.cache+" ")-field(stat, v.shared+" "), 0) // the system can drop it
	}
	return limit, limit - max(used, 0), true
}

// field returns the number after a name at the beginning of a line, 0 without one.
func field(data []byte, name string) int64 {
	for line := range bytes.Lines(data) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			if f := bytes.Fields(rest); len(f) > 0 {
				n, _ := strconv.ParseInt(string(f[0]), 10, 64)
				return n
			}
		}
	}
	return 0
}

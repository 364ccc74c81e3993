package main

import (
	"fmt"
	"syscall"
)

// mountSmall mounts a file system of so many bytes at dir.
func mountSmall(dir string, size int) (unmount func(), err error) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		return nil, err
	}
	return func() { _ = syscall.Unmount(dir, 0) }, nil
}

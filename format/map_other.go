//go:build !linux && !darwin

package format

import "os"

// mapFile reads the first size bytes of f where this package has no map.
func mapFile(f *os.File, size int) (data []byte, mapped bool, unmap func() error, err error) {
	data = make([]byte, size)
	if err := readFull(f, data, 0); err != nil {
		return nil, false, nil, err
	}
	return data, false, func() error { return nil }, nil
}

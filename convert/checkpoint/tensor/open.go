package tensor

import (
	"errors"
	"fmt"
	"os"
)

// OpenRegular opens path and returns its size. It refuses anything but a
// regular file before opening it, because opening a pipe can block for ever.
func OpenRegular(path string) (*os.File, int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s: got %s, want a regular file", path, info.Mode())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	// The size is taken from the open file: the name may have come to mean
	// another file since.
	if info, err = f.Stat(); err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

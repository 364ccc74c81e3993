//go:build !linux && !darwin && !windows

package runtime

import "errors"

// HostMemory reports that this system does not tell.
func HostMemory() (total, available int64, err error) {
	return 0, 0, errors.ErrUnsupported
}

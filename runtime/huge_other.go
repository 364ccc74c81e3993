//go:build !linux

package runtime

import "errors"

func allocHuge(int64) (*huge, error) { return nil, errors.New("this system has none") }

func hugeBytes() int64 { return 0 }

//go:build unix && !linux

package main

import "errors"

func mountSmall(string, int) (func(), error) {
	return nil, errors.New("no file system of a size is known on this system")
}

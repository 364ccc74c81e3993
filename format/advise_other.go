//go:build !linux

package format

import "context"

// Prefault asks the system to read a mapped file ahead and to enter its pages into
// the map. It does nothing on this system.
func (f *File) Prefault(context.Context) {}

// Forget takes the pages of a view of this file out of the process's memory. It
// does nothing on this system.
func (f *File) Forget([]byte) {}

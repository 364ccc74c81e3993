//go:build !linux && !darwin

package optest

// arena hands out plain buffers where there is no portable way to guard them.
type arena struct{}

func (a *arena) bytes(n int) []byte { return make([]byte, n, n+8)[:n:n] }

func (a *arena) free() {}

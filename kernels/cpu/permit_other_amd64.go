//go:build amd64 && !linux && !purego

package cpu

// permitAMX is for systems that are not known to save the state of tiles.
func permitAMX() bool { return false }

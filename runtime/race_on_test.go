//go:build race

package runtime

// RaceEnabled: the race detector makes arithmetic slow and sync.Pool forgetful.
const RaceEnabled = true

//go:build !race

package runtime

const RaceEnabled = false

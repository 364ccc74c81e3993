//go:build unix

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestInterruptions is a small run of what `go run ./internal/crash` does at length.
func TestInterruptions(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds tritter-convert and runs it many times")
	}
	var out strings.Builder
	wrong, err := run(&out, 8, 7)
	require.NoError(t, err)
	require.Zero(t, wrong, out.String())
	require.Contains(t, out.String(), "| SIGKILL | 8 |")
}

package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMutants is a small run of what `go run ./internal/mutate` does at length.
func TestMutants(t *testing.T) {
	var out strings.Builder
	wrong, err := run(&out, 3000, 42, "", "")
	require.NoError(t, err)
	require.Zero(t, wrong, out.String())
	if _, err := exec.LookPath("python3"); err == nil {
		wrong, err := run(&out, 400, 43, "", "../../spec")
		require.NoError(t, err)
		require.Zero(t, wrong, out.String())
	}
	for _, m := range mutations {
		require.Contains(t, out.String(), m.name)
	}
}

package main

import (
	"os"
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
	for _, m := range mutations {
		require.Contains(t, out.String(), m.name)
	}
}

// TestMutantsPython lets the independent reader judge mutants, too.
func TestMutantsPython(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		if strings.Contains(os.Getenv("TRITTER_REQUIRE"), "python3") {
			require.NoError(t, err)
		}
		t.Skip("python3 is not installed: spec/tritread.py judges no mutants")
	}
	var out strings.Builder
	wrong, err := run(&out, 400, 43, "", "../../spec")
	require.NoError(t, err)
	require.Zero(t, wrong, out.String())
}

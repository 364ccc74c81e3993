package ref

import (
	"os"
	"os/exec"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// The compiler may fuse a product into an addition wherever no conversion stands between, and does so on these
// targets. One fused instruction in this package would change results there, so none may be in its assembly.
func TestNothingIsFused(t *testing.T) {
	fused := regexp.MustCompile(`(?m)^.*\bV?F(N)?M(ADD|SUB)[0-9A-Z]*\b.*$`)
	require.Regexp(t, fused, "0x0010 00016 FMADDS F1, F2, F3, F4")
	require.Regexp(t, fused, "0x0010 00016 VFMADD231SD X1, X2, X3")
	for _, target := range [][]string{{"GOARCH=amd64", "GOAMD64=v3"}, {"GOARCH=arm64"}} {
		cmd := exec.Command("go", "build", "-gcflags=-S", ".")
		cmd.Env = append(append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0", "GOFLAGS="), target...)
		asm, err := cmd.CombinedOutput()
		require.NoError(t, err, "%v: %s", target, asm)
		require.Contains(t, string(asm), "FMA32 STEXT", "the listing must be there")
		require.Empty(t, fused.FindAllString(string(asm), -1), "%v: wrap the product in float32(...) or float64(...)", target)
	}
}

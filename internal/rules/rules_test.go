// Package rules holds the tree to what docs/architecture.md promises.
package rules

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/tritter-ai/tritter/"

// What the packages above others may depend on in common.
var (
	regexps    = []string{"github.com/dlclark/regexp2/v2", "golang.org/x/text"}
	pickles    = []string{"github.com/nlpodyssey/gopickle/pickle", "github.com/nlpodyssey/gopickle/types"}
	vectors    = []string{"kernels", "kernels/ref", "quantize", "kernels/cpu", "golang.org/x/sys"}
	engines    = join(vectors, regexps, []string{"format", "model", "tokenizer", "nearest", "codebook", "runtime", "kernels/cuda", "kernels/cuda/driver", "github.com/ebitengine/purego"})
	containers = join(pickles, []string{"convert/checkpoint", "convert/checkpoint/tensor", "convert/checkpoint/safetensors", "convert/checkpoint/torch", "convert/checkpoint/gguf", "github.com/x448/float16"})
	converting = join(engines, containers, []string{"convert/vocab", "convert"})
)

func join(lists ...[]string) []string { return slices.Concat(lists...) }

// mayImport lists, for each package of the library, what it may depend on,
// directly or not: packages of this module by their path in it, others by a
// prefix of their path. The standard library is always allowed.
var mayImport = map[string][]string{
	"format":                         {},
	"model":                          {},
	"quantize":                       {},
	"kernels":                        {},
	"kernels/ref":                    {"kernels", "quantize"},
	"kernels/cpu":                    vectors,
	"kernels/cuda/driver":            {"github.com/ebitengine/purego"},
	"kernels/cuda/ptx":               {},
	"kernels/cuda":                   {"kernels", "kernels/cuda/driver", "github.com/ebitengine/purego"},
	"nearest":                        {"kernels", "kernels/ref", "quantize"},
	"codebook":                       join(vectors, []string{"format", "nearest"}),
	"tokenizer":                      regexps,
	"runtime":                        engines,
	"convert/checkpoint/tensor":      {},
	"convert/checkpoint/safetensors": {"convert/checkpoint/tensor"},
	"convert/checkpoint/gguf":        {"convert/checkpoint/tensor", "github.com/x448/float16"},
	"convert/checkpoint/torch":       join(pickles, []string{"convert/checkpoint/tensor", "convert/checkpoint/safetensors"}),
	"convert/checkpoint":             containers,
	"convert/vocab":                  {},
	"convert":                        converting,
	"export":                         converting,
	"verify":                         join(converting, []string{"verify/sshsig", "golang.org/x/crypto"}),
	"verify/sshsig":                  {"golang.org/x/crypto", "golang.org/x/sys"},
	"chat":                           join(engines, []string{"github.com/nikolalohinski/gonja/v2", "github.com/dustin/go-humanize", "github.com/json-iterator/go", "github.com/modern-go", "github.com/pkg/errors", "github.com/sirupsen/logrus", "golang.org/x/exp/utf8string"}),
	"demo":                           {},
}

// anything are packages whose imports are free: commands, tests, tools.
func anything(path string) bool {
	return strings.HasPrefix(path, "cmd/") || strings.HasPrefix(path, "internal/") || path == "kernels/optest"
}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	return strings.Fields(string(out))
}

func TestImports(t *testing.T) {
	standard := map[string]bool{}
	for _, p := range goList(t, "std") {
		standard[p] = true
	}
	for _, line := range goList(t, "-f", `{{if .GoFiles}}{{.ImportPath}}={{join .Deps ","}}{{end}}`, "./...") {
		pkg, deps, _ := strings.Cut(line, "=")
		path, inside := strings.CutPrefix(pkg, module)
		require.True(t, inside, pkg)
		if anything(path) {
			continue
		}
		allowed, known := mayImport[path]
		require.True(t, known, "package %s has no rule here: add one, and a line to docs/architecture.md", path)
		for dep := range strings.SplitSeq(deps, ",") {
			own, isOurs := strings.CutPrefix(dep, module)
			ok := standard[dep] || strings.HasPrefix(dep, "vendor/") || dep == ""
			for _, a := range allowed {
				ok = ok || isOurs && own == a || !isOurs && strings.HasPrefix(dep, a)
			}
			require.True(t, ok, "%s must not depend on %s", path, dep)
		}
	}
}

// TestWhereCUDAIs: the library that opens the driver is linked where the driver is,
// and not with the build tag nocuda, which makes a static binary.
func TestWhereCUDAIs(t *testing.T) {
	const opener = "github.com/ebitengine/purego"
	for _, c := range []struct {
		os, arch, tags string
		want           bool
	}{
		{"linux", "amd64", "", true}, {"linux", "arm64", "", true},
		{"linux", "amd64", "nocuda", false}, {"linux", "arm64", "nocuda", false},
		{"linux", "386", "", false}, {"windows", "amd64", "", false}, {"darwin", "arm64", "", false},
	} {
		cmd := exec.Command("go", "list", "-deps", "-tags", c.tags, "./cmd/...")
		cmd.Dir = "../.."
		cmd.Env = append(os.Environ(), "GOOS="+c.os, "GOARCH="+c.arch, "CGO_ENABLED=0")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		require.NoError(t, err)
		linked := false
		for _, dep := range strings.Fields(string(out)) {
			linked = linked || dep == opener || strings.HasPrefix(dep, opener+"/")
			require.False(t, c.tags == "nocuda" && dep == "runtime/cgo", "nocuda builds are static")
		}
		require.Equal(t, c.want, linked, "%s/%s, tags %q", c.os, c.arch, c.tags)
	}
}

// TestPackageComments: every package has a package comment. (Exported
// names are left to staticcheck and review.)
func TestPackageComments(t *testing.T) {
	for _, line := range goList(t, "-f", `{{if .GoFiles}}{{.ImportPath}}={{len .Doc}}{{end}}`, "./...") {
		pkg, n, _ := strings.Cut(line, "=")
		require.NotEqual(t, "0", n, "%s has no package comment", pkg)
	}
}

// TestFilesAreOneIdea holds hand-written Go files to a readable length.
func TestFilesAreOneIdea(t *testing.T) {
	require.NoError(t, filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || strings.HasPrefix(string(data), "// Code generated") {
			return err
		}
		require.LessOrEqual(t, strings.Count(string(data), "\n"), 700, path)
		return nil
	}))
}

// TestModules: the commands contain these modules of others and no more. SECURITY.md
// names them.
func TestModules(t *testing.T) {
	t.Setenv("GOOS", "linux") // which links the most
	t.Setenv("GOARCH", "amd64")
	want := []string{
		"github.com/VividCortex/ewma", "github.com/acarl005/stripansi", "github.com/alecthomas/kong", "github.com/dlclark/regexp2/v2", "github.com/dustin/go-humanize", "github.com/ebitengine/purego",
		"github.com/json-iterator/go", "github.com/mattn/go-runewidth", "github.com/modern-go/concurrent", "github.com/modern-go/reflect2",
		"github.com/nikolalohinski/gonja/v2", "github.com/nlpodyssey/gopickle", "github.com/pkg/errors", "github.com/rivo/uniseg", "github.com/sirupsen/logrus",
		"github.com/vbauerster/mpb/v8", "github.com/x448/float16", "golang.org/x/crypto", "golang.org/x/exp", "golang.org/x/sys", "golang.org/x/term",
		"golang.org/x/text",
	}
	have := map[string]bool{}
	for _, path := range goList(t, "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./cmd/...") {
		if path != strings.TrimSuffix(module, "/") {
			have[path] = true
		}
	}
	require.ElementsMatch(t, want, slices.Collect(maps.Keys(have)), "a module more or less: SECURITY.md and this list name those that the commands contain")
	text, err := os.ReadFile("../../SECURITY.md")
	require.NoError(t, err)
	for _, path := range want {
		name := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(path, "/v2"), "/v8"), "/go")
		name = strings.TrimPrefix(name[strings.LastIndexByte(name, '/')+1:], "go-")
		require.Contains(t, string(text), name, "SECURITY.md does not name %s", path)
	}
}

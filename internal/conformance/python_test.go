package conformance

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/testdata/vectors"
)

// runVectors reads each vector named on its command line, text included, with the
// independent reader and prints for each what came out.
const runVectors = `
import io, sys
sys.path.insert(0, "../../spec")
import tritread
for path in sys.argv[1:]:
    data = open(path, "rb").read().split(b"\n\n", 1)[1]
    stage = "opening"
    try:
        file = tritread.File(io.BytesIO(data))
        stage = "verifying"
        file.check()
        stage = "content"
        file.content()
        print("success", file.release())
    except tritread.Refused as e:
        print(str(e).split(":")[0], stage)
`

// python3 is the interpreter's path. Without it the test is skipped, by name, or
// fails where TRITTER_REQUIRE asks for it.
func python3(t *testing.T, what string) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		if strings.Contains(os.Getenv("TRITTER_REQUIRE"), "python3") {
			require.NoError(t, err)
		}
		t.Skipf("python3 is not installed: spec/tritread.py is not %s", what)
	}
	return path
}

// TestPython runs every vector through spec/tritread.py, which shares nothing with
// this module. It reads no tokenizer.json; what only that shows, it accepts.
func TestPython(t *testing.T) {
	python := python3(t, "compared")
	list, err := vectors.Container()
	require.NoError(t, err)
	args := []string{"-B", "-c", runVectors}
	for _, v := range list {
		args = append(args, filepath.Join(folder, v.Name+".vector"))
	}
	cmd := exec.Command(python, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Len(t, lines, len(list))
	for i, v := range list {
		want := v.Expect + " " + v.Stage + v.Released
		if v.Expect == "tokenizer" && !strings.HasPrefix(v.Name, "chat") {
			require.True(t, strings.HasPrefix(lines[i], vectors.Success), "%s: %s", v.Name, lines[i])
			continue
		}
		if strings.HasPrefix(v.Name, "codebook-") { // which it looks at while it verifies
			lines[i] = strings.Replace(lines[i], vectors.Verifying, vectors.Content, 1)
		}
		require.Equal(t, want, lines[i], v.Name)
	}
}

// TestPythonCommand runs the reader as a person does.
func TestPythonCommand(t *testing.T) {
	python := python3(t, "run")
	list, err := vectors.Container()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "v.trit")
	run := func(name, option string) (string, int) {
		for _, v := range list {
			if v.Name == name {
				require.NoError(t, os.WriteFile(path, v.File, 0o666))
			}
		}
		cmd := exec.Command(python, "-B", "../../spec/tritread.py", option, path)
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	out, code := run("config-activation", "--content")
	require.Equal(t, 3, code, out)
	require.Contains(t, out, "config: offset")
	require.Contains(t, out, "gelu")
	out, code = run("sections-all", "--content")
	require.Zero(t, code, out)
	out, code = run("biases", "--release")
	require.Zero(t, code, out)
	require.Len(t, out, 65)
	out, code = run("trit2-code", "--check")
	require.Equal(t, 3, code, out)
	require.Contains(t, out, "code: offset")
}

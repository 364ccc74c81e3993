package cmd

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestChatInterrupt: the first Ctrl-C stops the answer and not the program, which
// goes on with what was said; the second one, with no answer to stop, leaves.
func TestChatInterrupt(t *testing.T) {
	c := exec.Command(filepath.Join(programs, "tritter-run"), "chat", "--chat-template", "chatml", "--temperature", "0", "--max-new-tokens", "900", "--threads", "1")
	in, err := c.StdinPipe()
	require.NoError(t, err)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	words, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	watchdog := time.AfterFunc(time.Minute, func() { c.Process.Kill() })
	defer watchdog.Stop()
	stdout, stderr := bufio.NewReader(out), bufio.NewReader(words)

	_, err = io.WriteString(in, "func main() {\n")
	require.NoError(t, err)
	_, err = stdout.ReadByte()
	require.NoError(t, err, "the answer begins")
	require.NoError(t, c.Process.Signal(os.Interrupt))
	line, err := stderr.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "(stopped)\n", line)

	_, err = io.WriteString(in, "/history\n/help\n")
	require.NoError(t, err)
	_, err = stderr.ReadString('\n') // the help: everything before it was done
	require.NoError(t, err)
	require.NoError(t, c.Process.Signal(os.Interrupt))
	rest, err := io.ReadAll(stdout)
	require.NoError(t, err)
	require.Contains(t, string(rest), "user: func main() {\nassistant: ")
	var exit *exec.ExitError
	require.True(t, errors.As(c.Wait(), &exit))
	require.Equal(t, 130, exit.ExitCode())
}

package torch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// Bounds on what opening any file costs.
const (
	mostMemory = 256 << 20
	mostTime   = 2 * time.Second
)

// costEnv names the file that the child process of TestCost opens.
const costEnv = "TRITTER_TEST_TORCH_COST"

// always returns the same part.
func always(part string) func(int) string { return func(int) string { return part } }

// costly are pickles with parts that are repeated as often as the limits
// allow, behind a beginning and before an end.
var costly = map[string]struct {
	first string
	part  func(i int) string
	last  string
}{
	"appended lists":   {"]", always("]a"), ""},
	"appended dicts":   {"]", always("}a"), ""},
	"odicts":           {"]" + name("collections", "OrderedDict") + "q\x00a", always("h\x00)Ra"), ""},
	"objects of items": {"]" + name("my", "C") + "q\x00a", always("h\x00)\x81K\x01Nsa"), ""},
	"classes":          {"]", always(name("m", "C") + "a"), ""},
	"sets":             {"]", always("\x8f(K\x01\x90a"), ""},
	"one ordered key":  {name("collections", "OrderedDict") + ")R" + str(strings.Repeat("k", 60_000)) + "q\x00Ns", always("h\x00Ns"), ""},
	"states":           {"](" + dict(strings.Repeat(str("a")+"N", 30_000)) + "q\x00" + name("collections", "OrderedDict") + ")R", always("h\x00b"), "e"},
	"models": {"}" + str("x") + dict(strings.Repeat(str("model")+"N", 30_000)) + "q\x00s" + str("model") + "q\x01Ns",
		always("h\x01h\x00s"), ""},
	"tensors": {"]" + floats("0", 2) + "a" + name("torch._utils", "_rebuild_tensor_v2") + "q\x00a" + storageID("FloatStorage", "0", 2) + "q\x01a",
		always("h\x00(h\x01K\x00K\x02\x85K\x01\x85\x89NtRa"), ""},
	"memo":         {"N", func(i int) string { return "r" + u32(i) }, ""},
	"set in odict": {name("collections", "OrderedDict") + ")R", func(i int) string { return "J" + u32(i) + "Ns" }, ""},
	"model":        {"}" + str("model") + "}", func(i int) string { return layer(i) + floats("0", 2) + "s" }, "s"},
	"model with memo": {"}" + str("model") + "}", func(i int) string {
		out := layer(i)
		for k := range 9 {
			out += "r" + u32(9*i+k)
		}
		return out + floats("0", 2) + "s"
	}, "s"},
}

func layer(i int) string { return str(fmt.Sprintf("layers.%d.weight", i)) }

// most returns about the longest pickle that passes the pre-scan: first, the
// parts 0 to n, last.
func most(t *testing.T, first string, part func(i int) string, last string) string {
	src := &source{name: "test.pt", size: 1 << 40}
	all := []byte("\x80\x02" + first)
	var ends []int
	for i := 0; len(all) < MaxPickle && i <= maxOps; i++ {
		ends = append(ends, len(all))
		all = append(all, part(i)...)
	}
	_, _, err := prescan(src, "x", 0, all)
	at := int64(len(all))
	var unsupported *tensor.UnsupportedError
	if errors.As(err, &unsupported) {
		at = unsupported.Offset
	}
	// The end needs a little too.
	for n := sort.SearchInts(ends, int(at)) - 1; ; n -= 1 + n/100 {
		require.Positive(t, n)
		body := string(all[2:ends[n]]) + last
		if _, _, err = prescan(src, "x", 0, []byte(whole(body))); err == nil {
			return body
		}
	}
}

// TestCostOfChild opens one file in a process of its own, and says what that
// took.
func TestCostOfChild(t *testing.T) {
	path := os.Getenv(costEnv)
	if path == "" {
		t.Skip("started by TestCost")
	}
	begin := time.Now()
	r, err := Open(path)
	if err == nil {
		err = r.Close()
	}
	seconds := time.Since(begin).Seconds()
	// The most memory that was resident; that of Rusage counts the parent's
	// until exec.
	status, readErr := os.ReadFile("/proc/self/status")
	require.NoError(t, readErr)
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	var kB int64
	_, readErr = fmt.Sscan(after, &kB)
	require.NoError(t, readErr)
	if err != nil {
		requireGoodError(t, err)
	}
	fmt.Printf("cost %g %d %v\n", seconds, kB<<10, err)
}

// costOf measures in a process of its own what opening the file costs.
func costOf(t *testing.T, file []byte) {
	path := filepath.Join(t.TempDir(), "x.pt")
	require.NoError(t, os.WriteFile(path, file, 0o600))
	costOfPath(t, path)
}

func costOfPath(t *testing.T, path string) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestCostOfChild$", "-test.v")
	cmd.Env = append(os.Environ(), costEnv+"="+path)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	var seconds float64
	var memory int64
	_, after, ok := strings.Cut(string(out), "cost ")
	require.True(t, ok, string(out))
	_, err = fmt.Sscan(after, &seconds, &memory)
	require.NoError(t, err)
	// Where others use the machine too, time passes without being used.
	seconds = min(seconds, (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds())
	line, _, _ := strings.Cut(after, "\n")
	t.Logf("%.2f s, %d MB: %s", seconds, memory>>20, line)
	require.Less(t, seconds, mostTime.Seconds())
	require.Less(t, memory, int64(mostMemory))
}

// TestCost opens the files that ask for most, each in a process of its own.
func TestCost(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a process for each of thirty large files")
	}
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc/self/status")
	}
	for name, p := range costly {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			costOf(t, fileOf(most(t, p.first, p.part, p.last), data("0", 8)))
		})
	}
	t.Run("one string", func(t *testing.T) {
		costOf(t, fileOf(str(strings.Repeat("a", MaxPickle-100))))
	})
	t.Run("pickle past the limit", func(t *testing.T) {
		costOf(t, fileOf(str(strings.Repeat("a", MaxPickle))))
	})
	t.Run("too many operations", func(t *testing.T) {
		costOf(t, fileOf("]"+strings.Repeat("Na", 8<<20)))
	})
	t.Run("records", func(t *testing.T) {
		records := weights()
		for i := range MaxRecords - len(records) {
			records = append(records, zipRecord{name: fmt.Sprintf("m/data/%065d", i+1)})
		}
		records[0].data = whole(most(t, "]", always(name("m", "C")+"a"), ""))
		costOf(t, archiveOf(zipEnd{}, records...))
	})
	t.Run("legacy without end", func(t *testing.T) {
		costOf(t, []byte(string(legacyMagic)+string(legacyProtocol)+whole(littleSystem)+"\x80\x02"+strings.Repeat("("+strings.Repeat("N", 1000)+"t", 35<<10)))
	})
	// A file of a terabyte that is nothing but holes.
	for name, beginning := range map[string]string{"sparse zip": "PK\x03\x04", "sparse legacy": string(legacyOf(littleSystem, dict()))} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sparse.pt")
			f, err := os.Create(path)
			require.NoError(t, err)
			_, err = io.WriteString(f, beginning)
			require.NoError(t, errors.Join(err, f.Truncate(1<<40), f.Close()))
			costOfPath(t, path)
		})
	}
}

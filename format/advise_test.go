//go:build linux

package format

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// resident counts the pages of a map that this process has entered.
func resident(t *testing.T, data []byte) (n int) {
	t.Helper()
	pagemap, err := os.Open("/proc/self/pagemap")
	require.NoError(t, err)
	defer pagemap.Close()
	page := os.Getpagesize()
	entry := make([]byte, 8)
	for at := 0; at < len(data); at += page {
		addr := uintptr(unsafe.Pointer(&data[at]))
		_, err := pagemap.ReadAt(entry, int64(addr)/int64(page)*8)
		require.NoError(t, err)
		if entry[7]&0x80 != 0 {
			n++
		}
	}
	return n
}

// TestPrefaultAndForget watches the pages of a map come and go.
func TestPrefaultAndForget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.trit")
	spec := TensorSpec{"embed.weight", Int8, RuleNone, ScaleRow, []int{100, 10000}, 0}
	writeFile(t, path, []source{{spec: spec, data: make([]byte, 100*10000), scales: make([]float32, 100)}}, testSections())
	f, err := Open(path)
	require.NoError(t, err)
	defer f.Close()
	tensor, _ := f.Tensor("embed.weight")
	view, err := tensor.Data()
	require.NoError(t, err)
	f.Forget(f.data)
	require.Zero(t, resident(t, f.data))
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	f.Prefault(ended)
	require.Zero(t, resident(t, f.data))
	if err := syscall.Madvise(f.data, madvPopulateRead); err == syscall.EINVAL {
		t.Skip("this kernel has no MADV_POPULATE_READ")
	}
	f.Forget(f.data[:len(f.data)/2])
	f.Prefault(context.Background())
	pages := (len(f.data) + os.Getpagesize() - 1) / os.Getpagesize()
	require.Equal(t, pages, resident(t, f.data))
	f.Forget(view)
	left := resident(t, f.data)
	require.Less(t, left, pages-100*10000/os.Getpagesize()+3)
	f.Forget(make([]byte, 1<<20)) // not of this file
	require.Equal(t, left, resident(t, f.data))

	// A file that shrank is no fault here.
	require.NoError(t, os.Truncate(path, 4096))
	f.Prefault(context.Background())
	f.Forget(view)
}

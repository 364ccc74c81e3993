//go:build linux

package format

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTruncatedMap shrinks a mapped file and reads it in every way.
func TestTruncatedMap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.trit")
	spec := TensorSpec{"embed.weight", Int8, RuleNone, ScaleRow, []int{100, 1000}, 0}
	src := source{spec: spec, data: make([]byte, 100*1000), scales: make([]float32, 100)}
	writeFile(t, path, []source{src}, testSections())
	f, err := Open(path)
	require.NoError(t, err)
	defer f.Close()
	tensor, _ := f.Tensor("embed.weight")
	view, err := tensor.Data()
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, 8192))

	requireFault := func(err error) {
		t.Helper()
		var fe *FormatError
		require.ErrorAs(t, err, &fe)
		require.Equal(t, ClassBounds, fe.Class)
		require.GreaterOrEqual(t, fe.Offset, int64(8192))
		require.Contains(t, err.Error(), "truncated while in use")
		require.Contains(t, err.Error(), path)
	}
	sum := 0
	requireFault(Guard(func() error {
		for _, v := range view {
			sum += int(v)
		}
		return nil
	}))
	requireFault(Guard(func() error { copy(make([]byte, len(view)), view); return nil }))
	_, err = tensor.Scales()
	requireFault(err)
	_, err = f.Section(SectionConfig)
	requireFault(err)
	ctx, report := context.Background(), func(p Problem) { t.Error(p) }
	requireFault(f.CheckTensor(ctx, tensor.Info(), report))
	requireFault(f.CheckSections(ctx, report))
	requireFault(f.CheckPadding(ctx, report))
	requireFault(f.Check(ctx, 2, report, nil))
}

func TestGuardPassesOthers(t *testing.T) {
	want := errors.New("own")
	require.ErrorIs(t, Guard(func() error { return want }), want)
	require.NoError(t, Guard(func() error { return nil }))
	require.PanicsWithValue(t, "own", func() { _ = Guard(func() error { panic("own") }) })
	require.Panics(t, func() {
		_ = Guard(func() error {
			var p *int
			*p = 1
			return nil
		})
	}, "a nil pointer is a bug of the program, not of the file")
	foreign, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	require.NoError(t, err)
	defer syscall.Munmap(foreign)
	require.Panics(t, func() {
		_ = Guard(func() error {
			foreign[0]++
			return nil
		})
	}, "a fault outside the maps of this package is a bug of the program")
}

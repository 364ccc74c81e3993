package runtime

import (
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// TestHostMemoryOfControlGroups reads the memory of made-up machines.
func TestHostMemoryOfControlGroups(t *testing.T) {
	const meminfo = "MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     600 kB\n"
	for name, c := range map[string]struct {
		files            map[string]string
		total, available int64
	}{
		"no groups": {nil, 1000 << 10, 600 << 10},
		"version 2, no limit": {map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/a/memory.current": "5\n"},
			1000 << 10, 600 << 10},
		"version 2, the page cache is free": {map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "409600\n", "sys/fs/cgroup/a/b/memory.current": "300000\n",
			"sys/fs/cgroup/a/b/memory.stat": "anon 100000\nfile 200000\nshmem 50000\nfile_mapped 7\n"}, 409600, 409600 - 150000},
		"version 2, a limit above": {map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/b/memory.current": "1\n",
			"sys/fs/cgroup/a/memory.max": "102400\n", "sys/fs/cgroup/a/memory.current": "2400\n"}, 102400, 100000},
		"version 1 in a container": {map[string]string{"proc/self/cgroup": "3:cpu:/x\n2:memory:/docker/1\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "204800\n",
			"sys/fs/cgroup/memory/memory.usage_in_bytes": "4800\n", "sys/fs/cgroup/memory/memory.stat": "total_cache 800\ntotal_shmem 0\n"}, 204800, 200800},
		"nothing left": {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "100\n", "sys/fs/cgroup/memory.current": "200\n"}, 100, 1},
	} {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{"proc/meminfo": {Data: []byte(meminfo)}}
			for path, data := range c.files {
				root[path] = &fstest.MapFile{Data: []byte(data)}
			}
			total, available, err := hostMemory(root)
			require.NoError(t, err)
			require.Equal(t, c.total, total)
			require.Equal(t, c.available, available)
		})
	}
	_, _, err := hostMemory(fstest.MapFS{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, _, err = hostMemory(fstest.MapFS{"proc/meminfo": {Data: []byte("MemTotal: 5 kB\n")}})
	require.ErrorContains(t, err, "no MemAvailable")

	total, available, err := HostMemory()
	require.NoError(t, err)
	require.Positive(t, available)
	require.LessOrEqual(t, available, total)
}

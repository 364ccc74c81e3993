package runtime

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProcFields(t *testing.T) {
	const text = "MemFree: 1 kB\nMemTotal:       4030 kB\nmodel name\t: Some CPU: fast\n"
	n, err := procValue(text, "MemTotal")
	require.NoError(t, err)
	require.Equal(t, int64(4030<<10), n)
	require.Equal(t, "Some CPU: fast", procField(text, "model name"))
	_, err = procValue("MemTotal: many\n", "MemTotal")
	require.EqualError(t, err, `/proc/meminfo: MemTotal is "many", want a number of kB`)
	_, err = procValue("", "MemTotal")
	require.Error(t, err)
}

package runtime

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProcFields(t *testing.T) {
	const text = "MemFree: 1 kB\nMemTotal:       4030 kB\nmodel name\t: Some CPU: fast\n"
	require.Equal(t, "Some CPU: fast", procField(text, "model name"))
	require.Empty(t, procField(text, "none"))
}

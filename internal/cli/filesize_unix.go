//go:build unix

package cli

import (
	"os/signal"
	"syscall"
)

// ignoreFileSize makes a write beyond the limit on the size of files (ulimit -f) an
// error like any other, where the signal would end the program before it could
// remove its temporary file.
func ignoreFileSize() { signal.Ignore(syscall.SIGXFSZ) }

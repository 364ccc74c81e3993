//go:build !linux || !(amd64 || arm64) || nocuda

package driver

// openLibrary says that there is nothing to open. The functions below are never
// reached: without a library there is no [Driver].
func openLibrary(string) (uintptr, error) { return 0, ErrUnavailable }

func lookup(uintptr, string) uintptr { return 0 }

func invoke(uintptr, []uintptr) int { return codeNotInitialized }

func threadID() int64 { return 0 }

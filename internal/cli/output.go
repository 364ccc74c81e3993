package cli

import (
	"fmt"
	"os"
)

// WriteOutput writes a file that a flag names, which must be none of the files that
// the program reads: those are named as the user gave them.
func WriteOutput(flag, path string, data []byte, inputs ...string) error {
	if to, err := os.Stat(path); err == nil {
		for _, input := range inputs {
			if from, err := os.Stat(input); err == nil && os.SameFile(to, from) {
				return fmt.Errorf("%s %s would overwrite %s, which is read; give another name", flag, path, input)
			}
		}
	}
	return os.WriteFile(path, data, 0o666)
}

package convert

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzConfig reads arbitrary config.json files: whatever they say, there is a
// configuration or an error, and validating it ends.
func FuzzConfig(f *testing.F) {
	files, err := filepath.Glob("../testdata/fixtures/*/config.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("no fixtures: %v", err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"architectures":["BitNetForCausalLM"],"hidden_size":1e9}`))
	f.Add([]byte(`{"hidden_size":1,"hidden_size":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := parseConfig(data)
		if err != nil {
			return
		}
		_ = h.config.Validate() // of what the tensors may still complete
	})
}

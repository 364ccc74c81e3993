package chat

import (
	"embed"
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

//go:embed templates/*.jinja
var files embed.FS

// builtin are the names of the built-in templates.
var builtin = []string{"bitnet", "chatml", "gemma", "llama2", "llama3", "mistral", "plain"}

// Builtins returns the names of the built-in templates: the forms of conversation
// that most models were trained on, and "plain", which needs no special tokens.
func Builtins() []string { return slices.Clone(builtin) }

// Builtin returns the source of a built-in template; the error lists their names.
func Builtin(name string) (string, error) {
	if slices.Contains(builtin, name) {
		data, err := files.ReadFile("templates/" + name + ".jinja")
		return string(data), err
	}
	return "", fmt.Errorf("there is no built-in chat template %q, want one of %s", name, strings.Join(builtin, ", "))
}

// Load returns the source of a template by the name of a built-in one, or else of
// a file of at most MaxTemplate bytes.
func Load(nameOrPath string) (string, error) {
	if slices.Contains(builtin, nameOrPath) {
		return Builtin(nameOrPath)
	}
	info, err := os.Stat(nameOrPath)
	if err != nil {
		return "", fmt.Errorf("%w; the built-in chat templates are %s", err, strings.Join(builtin, ", "))
	}
	if !info.Mode().IsRegular() || info.Size() > MaxTemplate {
		return "", fmt.Errorf("%s: want a chat template in a file of at most %d bytes", nameOrPath, MaxTemplate)
	}
	data, err := os.ReadFile(nameOrPath)
	if err == nil && !utf8.Valid(data) {
		err = fmt.Errorf("%s: the chat template is not valid UTF-8", nameOrPath)
	}
	return string(data), err
}

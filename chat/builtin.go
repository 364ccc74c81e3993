package chat

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed templates/*.jinja
var files embed.FS

// builtin are the names of the built-in templates.
var builtin = []string{"bitnet", "chatml", "gemma", "llama2", "llama3", "mistral", "plain"}

// Builtins returns the names of the built-in templates: the forms of conversation
// that most models were trained on, and "plain", which needs no special tokens.
func Builtins() []string { return append([]string(nil), builtin...) }

// Builtin returns the source of a built-in template; the error lists their names.
func Builtin(name string) (string, error) {
	for _, n := range builtin {
		if n == name {
			data, err := files.ReadFile("templates/" + n + ".jinja")
			return string(data), err
		}
	}
	return "", fmt.Errorf("there is no built-in chat template %q, want one of %s", name, strings.Join(builtin, ", "))
}

package sshsig

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

func signers(t *testing.T) map[string]ssh.Signer {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	out := map[string]ssh.Signer{}
	for name, key := range map[string]any{"ed25519": ed, "ecdsa": ec, "rsa": rs} {
		out[name], err = ssh.NewSignerFromKey(key)
		require.NoError(t, err)
	}
	return out
}

func TestSignAndVerify(t *testing.T) {
	message := []byte("a message\n")
	for name, key := range signers(t) {
		t.Run(name, func(t *testing.T) {
			data, err := Sign(key, "trit", message)
			require.NoError(t, err)
			s, err := Parse(data)
			require.NoError(t, err)
			require.NoError(t, s.Verify("trit", message))
			require.ErrorContains(t, s.Verify("trit", []byte("a message")), "not one of this content")
			require.ErrorContains(t, s.Verify("file", message), `for the namespace "trit", want "file"`)
		})
	}
	_, err := Sign(signers(t)["ed25519"], "", message)
	require.ErrorContains(t, err, "namespace")
}

// TestEveryFlipIsRefused: no byte of a signature can change.
func TestEveryFlipIsRefused(t *testing.T) {
	message := []byte("a message\n")
	data, err := Sign(signers(t)["ed25519"], "trit", message)
	require.NoError(t, err)
	p, _ := pem.Decode(data)
	for i := range p.Bytes {
		for _, bit := range []byte{1, 0x80} {
			bad := bytes.Clone(p.Bytes)
			bad[i] ^= bit
			s, err := Parse(pem.EncodeToMemory(&pem.Block{Type: armor, Bytes: bad}))
			if err == nil {
				err = s.Verify("trit", message)
			}
			require.Error(t, err, "byte %d", i)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	block := func(b []byte) string { return string(pem.EncodeToMemory(&pem.Block{Type: armor, Bytes: b})) }
	for want, data := range map[string]string{
		"BEGIN SSH SIGNATURE":  "nothing",
		"begin with SSHSIG":    block([]byte("SSH")),
		"damaged":              block([]byte("SSHSIG\x00\x00")),
		"version 2, want 1":    block(append([]byte(magic), ssh.Marshal(blob{Version: 2})...)),
		`"md5", want sha256`:   block(append([]byte(magic), ssh.Marshal(blob{Version: 1, HashAlgorithm: "md5"})...)),
		"key of the signature": block(append([]byte(magic), ssh.Marshal(blob{Version: 1, HashAlgorithm: "sha256", PublicKey: "x"})...)),
		"at most 16384":        strings.Repeat("x", MaxSignature+1),
	} {
		_, err := Parse([]byte(data))
		require.ErrorContains(t, err, want)
	}
}

func TestAllowedSigners(t *testing.T) {
	keys := signers(t)
	line := func(name string) string {
		return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(keys[name].PublicKey())))
	}
	all, err := ParseAllowedSigners([]byte("# who may sign\n\nme@example.com,you " + line("ed25519") + " a comment\n" +
		`"the team" namespaces="git,tri?",valid-after="20250101Z",valid-before="202601010000" ` + line("ecdsa") + "\n"))
	require.NoError(t, err)
	at := func(s string) time.Time {
		v, err := time.Parse(time.DateOnly, s)
		require.NoError(t, err)
		return v
	}
	who, err := all.Who(keys["ed25519"].PublicKey(), "trit", at("2026-06-01"))
	require.NoError(t, err)
	require.Equal(t, "me@example.com,you", who)
	who, err = all.Who(keys["ecdsa"].PublicKey(), "trit", at("2025-06-01"))
	require.NoError(t, err)
	require.Equal(t, "the team", who)
	for want, c := range map[string]struct{ key, namespace, day string }{
		"none of the 2 allowed":             {"rsa", "trit", "2025-06-01"},
		"the namespaces git,tri? only":      {"ecdsa", "file", "2025-06-01"},
		"valid after 2025-01-01 00:00:00":   {"ecdsa", "trit", "2024-12-31"},
		"was valid before 2026-01-01 00:00": {"ecdsa", "trit", "2026-01-02"},
	} {
		_, err := all.Who(keys[c.key].PublicKey(), c.namespace, at(c.day))
		require.ErrorContains(t, err, want)
	}
	for want, text := range map[string]string{
		"no signer":                      "# nobody\n",
		"line 1: option \"no-touch":      "me no-touch-required " + line("ed25519"),
		"line 1: option \"cert-authorit": "me cert-authority " + line("ed25519"),
		"line 2":                         "# x\nme ssh-ed25519 AAAA",
		"want YYYYMMDD":                  `me valid-after="2025" ` + line("ed25519"),
		"do not end":                     `"me ` + line("ed25519"),
	} {
		_, err := ParseAllowedSigners([]byte(text))
		require.ErrorContains(t, err, want)
	}
}

// TestAgainstOpenSSH: ssh-keygen accepts these signatures, and its own are
// accepted here.
func TestAgainstOpenSSH(t *testing.T) {
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("no ssh-keygen on this machine")
	}
	dir, message := t.TempDir(), []byte("a message\n")
	run := func(stdin []byte, args ...string) string {
		cmd := exec.Command(keygen, args...)
		cmd.Dir, cmd.Stdin = dir, bytes.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%v: %s", args, out)
		return string(out)
	}
	run(nil, "-q", "-t", "ed25519", "-N", "", "-f", "key")
	secret, err := os.ReadFile(filepath.Join(dir, "key"))
	require.NoError(t, err)
	public, err := os.ReadFile(filepath.Join(dir, "key.pub"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "allowed"), append([]byte(`me namespaces="trit" `), public...), 0o600))
	key, err := ssh.ParsePrivateKey(secret)
	require.NoError(t, err)

	ours, err := Sign(key, "trit", message)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ours.sig"), ours, 0o600))
	require.Contains(t, run(message, "-Y", "verify", "-f", "allowed", "-I", "me", "-n", "trit", "-s", "ours.sig"), "Good")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "theirs"), message, 0o600))
	run(nil, "-Y", "sign", "-f", "key", "-n", "trit", "theirs")
	theirs, err := os.ReadFile(filepath.Join(dir, "theirs.sig"))
	require.NoError(t, err)
	s, err := Parse(theirs)
	require.NoError(t, err)
	require.NoError(t, s.Verify("trit", message))
	allowed, err := os.ReadFile(filepath.Join(dir, "allowed"))
	require.NoError(t, err)
	all, err := ParseAllowedSigners(allowed)
	require.NoError(t, err)
	who, err := all.Who(s.Key, "trit", time.Now())
	require.NoError(t, err)
	require.Equal(t, "me", who)
}

// FuzzParse: neither parser panics, and what verifies names its key.
func FuzzParse(f *testing.F) {
	f.Add([]byte("-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----\n"))
	f.Add([]byte(`me namespaces="trit" ssh-ed25519 AAAA`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := Parse(data); err == nil && s.Verify("trit", nil) == nil && s.Key == nil {
			t.Fatal("a signature by nobody")
		}
		if all, err := ParseAllowedSigners(data); err == nil && len(all) == 0 {
			t.Fatal("nobody, and no error")
		}
	})
}

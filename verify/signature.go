package verify

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/verify/sshsig"
)

// SignatureNamespace is the namespace of signatures of .trit files.
const SignatureNamespace = "trit"

// SignatureSuffix, appended to a file's path, is where its signature is looked for.
const SignatureSuffix = ".sig"

// SignedMessage is what a signature of the file with this header signs: the
// header's SHA-256 in lower-case hex and a line feed. The header holds the hash
// of everything else.
func SignedMessage(h *format.Header) []byte { return fmt.Appendf(nil, "%x\n", h.SHA256) }

func (v *verifier) signaturePath() string {
	if v.opt.Signature != "" {
		return v.opt.Signature
	}
	return v.report.Path + SignatureSuffix
}

func (v *verifier) signed() bool {
	_, err := os.Stat(v.signaturePath())
	return err == nil
}

// checkSignature holds the file to a signature by an allowed signer. Without a list
// of them it only tells whose key signed, and whether the signature is right.
func (v *verifier) checkSignature() (string, error) {
	wrong := func(err error, expected string) (string, error) {
		v.report.Findings = append(v.report.Findings, Finding{Check: "signature", Class: "signature", Actual: err.Error(), Expected: expected, Message: v.signaturePath() + ": " + err.Error()})
		return "", nil
	}
	data, err := readSmall(v.signaturePath(), sshsig.MaxSignature)
	if errors.Is(err, os.ErrNotExist) {
		return wrong(errors.New("there is no signature"), "a signature by an allowed signer; tritter-verify --sign KEY makes one")
	}
	if err != nil {
		return "", err
	}
	s, err := sshsig.Parse(data)
	if err != nil {
		return wrong(err, "a signature as ssh-keygen -Y sign writes it")
	}
	if err := s.Verify(SignatureNamespace, SignedMessage(v.file.Header())); err != nil {
		return wrong(err, "a signature of this file's header")
	}
	fingerprint := ssh.FingerprintSHA256(s.Key)
	if v.opt.AllowedSigners == "" {
		return fmt.Sprintf("by %s, whom nobody vouches for: --allowed-signers FILE", fingerprint), errSkipped
	}
	if data, err = readSmall(v.opt.AllowedSigners, sshsig.MaxAllowed); err != nil {
		return "", err
	}
	allowed, err := sshsig.ParseAllowedSigners(data)
	if err != nil {
		return "", fmt.Errorf("%s: %w", v.opt.AllowedSigners, err)
	}
	who, err := allowed.Who(s.Key, SignatureNamespace, time.Now())
	if err != nil {
		return wrong(err, "a signature by one of "+v.opt.AllowedSigners)
	}
	return fmt.Sprintf("by %s, key %s", who, fingerprint), nil
}

// readSmall reads a file of at most limit bytes.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: more than %d bytes, want at most that", path, limit)
	}
	return data, err
}

// Sign writes the signature of the file at path, by the OpenSSH or PKCS #8 private
// key in keyFile, to path with SignatureSuffix, and returns where. passphrase is
// asked for when the key is encrypted. The file should have been verified before.
func Sign(path, keyFile string, passphrase func() ([]byte, error)) (string, error) {
	f, err := format.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	pem, err := readSmall(keyFile, 1<<20)
	if err != nil {
		return "", err
	}
	key, err := ssh.ParsePrivateKey(pem)
	if _, encrypted := errors.AsType[*ssh.PassphraseMissingError](err); encrypted {
		phrase, perr := passphrase()
		if perr != nil {
			return "", perr
		}
		key, err = ssh.ParsePrivateKeyWithPassphrase(pem, phrase)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w; want a private key as ssh-keygen writes it", keyFile, err)
	}
	sig, err := sshsig.Sign(key, SignatureNamespace, SignedMessage(f.Header()))
	if err != nil {
		return "", err
	}
	out := path + SignatureSuffix
	return out, os.WriteFile(out, sig, 0o644)
}

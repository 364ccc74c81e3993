// Package sshsig signs messages with SSH keys and checks such signatures, in the
// form of ssh-keygen -Y (OpenSSH, PROTOCOL.sshsig).
package sshsig

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"

	"golang.org/x/crypto/ssh"
)

const (
	armor   = "SSH SIGNATURE"
	magic   = "SSHSIG"
	version = 1

	// MaxSignature bounds a signature file: those of RSA keys of 16,384 bits are
	// a third of it.
	MaxSignature = 16 << 10
)

// Signature is a signature and the key that made it.
type Signature struct {
	Key       ssh.PublicKey
	Namespace string // what the signature is for, so that one for e-mail does not count for a file
	hash      string
	signature ssh.Signature
}

// blob is the binary form, after the magic.
type blob struct {
	Version       uint32
	PublicKey     string
	Namespace     string
	Reserved      string
	HashAlgorithm string
	Signature     string
}

// signed is what the key signs, after the magic.
type signed struct {
	Namespace     string
	Reserved      string
	HashAlgorithm string
	Hash          string
}

var hashes = map[string]func() hash.Hash{"sha256": sha256.New, "sha512": sha512.New}

func toSign(namespace, algorithm string, message []byte) []byte {
	h := hashes[algorithm]()
	h.Write(message)
	return append([]byte(magic), ssh.Marshal(signed{Namespace: namespace, HashAlgorithm: algorithm, Hash: string(h.Sum(nil))})...)
}

// Sign returns the armored signature of message for a namespace, which must not be
// empty. RSA keys sign with SHA-512.
func Sign(key ssh.Signer, namespace string, message []byte) ([]byte, error) {
	if namespace == "" {
		return nil, errors.New("a signature needs a namespace")
	}
	const algorithm = "sha512"
	data := toSign(namespace, algorithm, message)
	var s *ssh.Signature
	var err error
	if as, ok := key.(ssh.AlgorithmSigner); ok && key.PublicKey().Type() == ssh.KeyAlgoRSA {
		s, err = as.SignWithAlgorithm(rand.Reader, data, ssh.KeyAlgoRSASHA512)
	} else {
		s, err = key.Sign(rand.Reader, data)
	}
	if err != nil {
		return nil, err
	}
	b := blob{Version: version, PublicKey: string(key.PublicKey().Marshal()), Namespace: namespace, HashAlgorithm: algorithm, Signature: string(ssh.Marshal(s))}
	return pem.EncodeToMemory(&pem.Block{Type: armor, Bytes: append([]byte(magic), ssh.Marshal(b)...)}), nil
}

// Parse reads an armored signature. It says nothing yet about who made it or
// whether it fits a message.
func Parse(data []byte) (*Signature, error) {
	if len(data) > MaxSignature {
		return nil, fmt.Errorf("a signature of %d bytes, want at most %d", len(data), MaxSignature)
	}
	p, _ := pem.Decode(data)
	if p == nil || p.Type != armor {
		return nil, errors.New("no line -----BEGIN SSH SIGNATURE-----; want a file as ssh-keygen -Y sign writes it")
	}
	if len(p.Bytes) < len(magic) || string(p.Bytes[:len(magic)]) != magic {
		return nil, errors.New("the signature does not begin with SSHSIG")
	}
	var b blob
	if err := ssh.Unmarshal(p.Bytes[len(magic):], &b); err != nil {
		return nil, fmt.Errorf("the signature is damaged: %w", err)
	}
	if b.Version != version {
		return nil, fmt.Errorf("a signature of version %d, want %d", b.Version, version)
	}
	if hashes[b.HashAlgorithm] == nil {
		return nil, fmt.Errorf("the signature hashes with %q, want sha256 or sha512", b.HashAlgorithm)
	}
	s := &Signature{Namespace: b.Namespace, hash: b.HashAlgorithm}
	var err error
	if s.Key, err = ssh.ParsePublicKey([]byte(b.PublicKey)); err != nil {
		return nil, fmt.Errorf("the key of the signature: %w", err)
	}
	if _, ok := s.Key.(*ssh.Certificate); ok {
		return nil, errors.New("the signature was made with a certificate; sign with the key itself")
	}
	if err := ssh.Unmarshal([]byte(b.Signature), &s.signature); err != nil {
		return nil, fmt.Errorf("the signature is damaged: %w", err)
	}
	if s.signature.Format == ssh.KeyAlgoRSA { // RSA with SHA-1
		return nil, errors.New("the signature uses RSA with SHA-1, want rsa-sha2-256 or rsa-sha2-512")
	}
	return s, nil
}

// Verify reports whether s is a signature of message for the namespace by s.Key.
// Whether that key is trusted is another question: AllowedSigners.
func (s *Signature) Verify(namespace string, message []byte) error {
	if s.Namespace != namespace {
		return fmt.Errorf("the signature is for the namespace %q, want %q", s.Namespace, namespace)
	}
	if err := s.Key.Verify(toSign(namespace, s.hash, message), &s.signature); err != nil {
		return fmt.Errorf("the signature is not one of this content by %s: %w", ssh.FingerprintSHA256(s.Key), err)
	}
	return nil
}

package sshsig

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// MaxAllowed bounds an allowed-signers file.
const MaxAllowed = 16 << 20

// AllowedSigners are the keys that someone trusts, and for what: the content of a
// file as ssh-keygen(1) describes under ALLOWED SIGNERS.
type AllowedSigners []AllowedSigner

// AllowedSigner is one line of the file.
type AllowedSigner struct {
	Principals  string // whom the key belongs to: names, separated by commas
	Key         ssh.PublicKey
	Namespaces  []string  // patterns; empty allows all
	ValidAfter  time.Time // zero: no limit
	ValidBefore time.Time
}

// ParseAllowedSigners reads such a file. A line that cannot be understood is an
// error, for a trust that was meant to be limited must not become unlimited.
func ParseAllowedSigners(data []byte) (AllowedSigners, error) {
	if len(data) > MaxAllowed {
		return nil, fmt.Errorf("an allowed-signers file of %d bytes, want at most %d", len(data), MaxAllowed)
	}
	var all AllowedSigners
	for i, line := range bytes.Split(data, []byte("\n")) {
		line := strings.TrimSpace(string(line))
		if line == "" || line[0] == '#' {
			continue
		}
		a, err := parseAllowed(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		all = append(all, *a)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no signer is listed; want lines such as: me@example.com ssh-ed25519 AAAA")
	}
	return all, nil
}

// parseAllowed reads "principals [options] keytype base64 [comment]". The rest
// after the principals has the form of a line of authorized_keys.
func parseAllowed(line string) (*AllowedSigner, error) {
	principals, rest, _ := strings.Cut(line, " ")
	if strings.HasPrefix(line, `"`) { // principals may be quoted
		end := strings.IndexByte(line[1:], '"')
		if end < 0 {
			return nil, fmt.Errorf("the quoted principals do not end")
		}
		principals, rest = line[1:1+end], line[end+2:]
	}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(strings.TrimSpace(rest)))
	if err != nil {
		return nil, fmt.Errorf("%w; want: principals [options] keytype base64-key", err)
	}
	a := &AllowedSigner{Principals: principals, Key: key}
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		value = strings.Trim(value, `"`)
		switch strings.ToLower(name) {
		case "namespaces":
			a.Namespaces = strings.Split(value, ",")
		case "valid-after":
			if a.ValidAfter, err = parseTime(value); err != nil {
				return nil, err
			}
		case "valid-before":
			if a.ValidBefore, err = parseTime(value); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("option %q, want namespaces, valid-after or valid-before", name)
		}
	}
	return a, nil
}

// parseTime reads YYYYMMDD[HHMM[SS]][Z]; without Z it is local time.
func parseTime(s string) (time.Time, error) {
	zone := time.Local
	digits, utc := strings.CutSuffix(s, "Z")
	if utc {
		zone = time.UTC
	}
	layout := map[int]string{8: "20060102", 12: "200601021504", 14: "20060102150405"}[len(digits)]
	t, err := time.ParseInLocation(layout, digits, zone)
	if layout == "" || err != nil {
		return t, fmt.Errorf("time %q, want YYYYMMDD[HHMM[SS]][Z]", s)
	}
	return t, nil
}

// Who returns the principals of the line that allows the key for the namespace at
// a time, or why none does.
func (all AllowedSigners) Who(key ssh.PublicKey, namespace string, now time.Time) (string, error) {
	var why error
	for i := range all {
		a := &all[i]
		if !bytes.Equal(a.Key.Marshal(), key.Marshal()) {
			continue
		}
		switch {
		case !a.allows(namespace):
			why = fmt.Errorf("the key of %s is allowed for the namespaces %s only, want %s", a.Principals, strings.Join(a.Namespaces, ","), namespace)
		case !a.ValidAfter.IsZero() && now.Before(a.ValidAfter):
			why = fmt.Errorf("the key of %s is valid after %s only", a.Principals, a.ValidAfter.Format(time.DateTime))
		case !a.ValidBefore.IsZero() && !now.Before(a.ValidBefore):
			why = fmt.Errorf("the key of %s was valid before %s only", a.Principals, a.ValidBefore.Format(time.DateTime))
		default:
			return a.Principals, nil
		}
	}
	if why == nil {
		why = fmt.Errorf("the key %s is none of the %d allowed signers", ssh.FingerprintSHA256(key), len(all))
	}
	return "", why
}

func (a *AllowedSigner) allows(namespace string) bool {
	for _, pattern := range a.Namespaces {
		if ok, err := path.Match(pattern, namespace); ok && err == nil {
			return true
		}
	}
	return len(a.Namespaces) == 0
}

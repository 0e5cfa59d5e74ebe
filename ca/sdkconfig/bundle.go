package sdkconfig

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/signet-hsm/signet/fault"
)

// The contract's two spellings.
var (
	standard = regexp.MustCompile(`^[A-Za-z0-9+/\s]+={0,2}$`)
	urlSafe  = regexp.MustCompile(`^[A-Za-z0-9_\-]+={0,2}$`)
)

// parseBundle reads the TLS certificates. Violations name them by their index.
func parseBundle(texts []string, now time.Time) (bundle [][]byte, violations []fault.Violation) {
	if len(texts) < 1 || len(texts) > maxCertificates {
		return nil, []fault.Violation{{Field: "tlsBundle", Hint: "must have 1 to 50 certificates"}}
	}
	places := map[string]int{}
	for i, text := range texts {
		der, hint := parseCertificate(text, now)
		if first, twice := places[string(der)]; twice && hint == "" {
			hint = fmt.Sprintf("is the same certificate as tlsBundle[%d]", first)
		}
		if hint != "" {
			violations = append(violations, fault.Violation{Field: fmt.Sprintf("tlsBundle[%d]", i), Hint: hint})
			continue
		}
		places[string(der)] = i
		bundle = append(bundle, der)
	}
	return bundle, violations
}

// parseCertificate returns the DER, or what is wrong.
func parseCertificate(text string, now time.Time) (der []byte, hint string) {
	if len(text) > maxText {
		return nil, "must be a certificate of at most 16 KiB"
	}
	der, err := decode(text)
	if err != nil {
		return nil, "must be base64 or base64url"
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil || !bytes.Equal(cert.Raw, der) || len(der) > maxDER {
		return nil, "must be one X.509 certificate in DER of at most 16 KiB"
	}
	// Not valid yet is fine: before a server changes its certificate, apps have to
	// know both.
	if now.Truncate(time.Second).After(cert.NotAfter) {
		return nil, "expired at " + cert.NotAfter.UTC().Format(time.RFC3339)
	}
	return der, ""
}

var errEncoding = errors.New("sdkconfig: not base64")

// decode reads either base64, strictly: no text has two readings and no bits are
// left over.
func decode(text string) ([]byte, error) {
	encoding := base64.RawStdEncoding
	switch {
	case standard.MatchString(text):
		text = strings.Join(strings.Fields(text), "")
	case urlSafe.MatchString(text):
		encoding = base64.RawURLEncoding
	default:
		return nil, errEncoding
	}
	bare := strings.TrimRight(text, "=")
	if len(bare) != len(text) && len(text)%4 != 0 {
		return nil, errEncoding
	}
	return encoding.Strict().DecodeString(bare)
}

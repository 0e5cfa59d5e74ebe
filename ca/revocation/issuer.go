package revocation

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/signet-hsm/signet/ca/issuance"
)

// KeyID is the subject key identifier of a CA certificate; it names the issuer
// in tables and addresses.
type KeyID [20]byte

// String returns 40 lower-case hex digits.
func (k KeyID) String() string { return hex.EncodeToString(k[:]) }

// ParseKeyID is the inverse of String and takes nothing else.
func ParseKeyID(s string) (KeyID, bool) {
	var k KeyID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(k) || hex.EncodeToString(b) != s {
		return KeyID{}, false
	}
	return KeyID(b), true
}

// Issuer is a CA that may sign now.
type Issuer struct {
	Certificate *x509.Certificate // the newest of its key; must not be changed
	Shards      int               // number of its CRLs, the same for ever
}

// KeyID returns the identifier of the issuer's key.
func (i *Issuer) KeyID() KeyID {
	var k KeyID
	copy(k[:], i.Certificate.SubjectKeyId)
	return k
}

// Authority is what the publisher asks of the certificate authority. Outages
// wrap fault.ErrUnavailable; keys end their wait for the HSM with the context
// they were asked with.
type Authority interface {
	// Issuers lists the CAs that may sign now.
	Issuers(ctx context.Context) ([]Issuer, error)
	// Issuer finds one of them, however new; ErrNoIssuer.
	Issuer(ctx context.Context, id KeyID) (Issuer, error)
	// IssuerKey is the CA's own key, for its CRLs.
	IssuerKey(ctx context.Context, id KeyID) (crypto.Signer, error)
	// NotAfter tells the last second of a certificate that was issued, revoked
	// or not; ErrUnknownCertificate for everything else.
	NotAfter(ctx context.Context, id KeyID, serial issuance.Serial) (time.Time, error)
	// ResponderKey is the key of the certificates that CertifyResponder issues.
	ResponderKey(ctx context.Context, id KeyID) (crypto.Signer, error)
	// CertifyResponder issues a certificate for ResponderKey by the CA.
	CertifyResponder(ctx context.Context, id KeyID, serial issuance.Serial) ([]byte, error)
	// CRLKey is the key of the certificates that CertifyCRLSigner issues.
	CRLKey(ctx context.Context, id KeyID) (crypto.Signer, error)
	// CertifyCRLSigner issues a certificate for CRLKey by the CA, in the CA's name.
	CertifyCRLSigner(ctx context.Context, id KeyID, serial issuance.Serial) ([]byte, error)
}

// CRLURL is where CRL number shard of an issuer is found below base, an http
// address without a slash at its end. Certificates, the CRL itself and package
// pki have to agree in it.
func CRLURL(base string, id KeyID, shard int) string {
	return base + "/crl/" + id.String() + "/" + strconv.Itoa(shard) + ".crl"
}

// ValidBase reports whether CRLURL and the others can append to base.
func ValidBase(base string) bool {
	u, err := url.Parse(base)
	return err == nil && u.Scheme == "http" && u.Host != "" && u.User == nil && u.RawQuery == "" && !u.ForceQuery &&
		u.Fragment == "" && !strings.HasSuffix(base, "/") && !strings.HasSuffix(base, "#")
}

// OCSPURL is where OCSP requests about an issuer's certificates go.
func OCSPURL(base string, id KeyID) string { return base + "/ocsp/" + id.String() }

// IssuerURL is where the issuer's own certificate is found.
func IssuerURL(base string, id KeyID) string { return base + "/ca/" + id.String() + ".cer" }

// CRLSignerURL is where the certificate of the key is found that signs CRLs in
// the issuer's place.
func CRLSignerURL(base string, id KeyID) string { return base + "/ca/" + id.String() + "/crl.cer" }

// signed reports whether the certificate is one of this issuer's.
func (i *Issuer) signed(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, i.Certificate.RawSubject) && c.CheckSignatureFrom(i.Certificate) == nil
}

package ceremony

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/conf"
)

// CRL is a list of the certificates that a root has revoked. A verifier that
// checks whole chains needs one of every CA in them, even an empty one.
type CRL struct {
	By string `yaml:"by" json:"by"` // root or existing_root
	// Number is higher than that of every CRL of this root before: nobody but the
	// people who review the plan remembers those.
	Number   int64         `yaml:"number" json:"number"`
	Validity conf.Duration `yaml:"validity" json:"validity"` // from now to nextUpdate, a year at most
	Revoked  []Revoked     `yaml:"revoked" json:"revoked,omitempty"`
}

// Revoked is one certificate that the root has issued.
type Revoked struct {
	Serial string `yaml:"serial" json:"serial"` // 32 hex digits, as in the transcript
	Reason string `yaml:"reason" json:"reason"` // as the API has it: KEY_COMPROMISE
	At     string `yaml:"at" json:"at"`         // RFC 3339, in seconds
}

const (
	maxRevoked     = 1000
	maxCRLValidity = 366 * 24 * time.Hour
)

// reasons are those for which a CA's certificate is revoked (RFC 5280 section 5.3.1).
var reasons = map[string]int{
	"UNSPECIFIED": 0, "KEY_COMPROMISE": 1, "CA_COMPROMISE": 2, "AFFILIATION_CHANGED": 3, "SUPERSEDED": 4, "CESSATION_OF_OPERATION": 5,
}

func (p *Plan) validateCRLs() error {
	seen := map[string]bool{}
	for i := range p.CRLs {
		c := &p.CRLs[i]
		bad := func(what string) error { return fmt.Errorf("%w: crl %d: %s", ErrPlan, i+1, what) }
		switch {
		case c.By != newRoot && c.By != existingRoot:
			return bad("by must be root or existing_root")
		case c.By == newRoot && p.Root == nil, c.By == existingRoot && p.ExistingRoot == nil:
			return bad("the plan has no " + c.By)
		case c.By == newRoot && len(c.Revoked) > 0:
			return bad("a new root has revoked nothing")
		case seen[c.By]:
			return bad("is the second one of the " + c.By)
		case c.Number < 1:
			return bad("number must be 1 or more")
		case c.Validity.Std() > maxCRLValidity:
			return bad("validity must be a year at most")
		case len(c.Revoked) > maxRevoked:
			return bad("revokes too many certificates")
		}
		seen[c.By] = true
		if err := validity(c.Validity); err != nil {
			return bad(err.Error())
		}
		if _, err := c.entries(); err != nil {
			return bad(err.Error())
		}
	}
	return nil
}

func (c *CRL) entries() (list []x509.RevocationListEntry, err error) {
	seen := map[string]bool{}
	for i := range c.Revoked {
		r := &c.Revoked[i]
		raw, err := hex.DecodeString(r.Serial)
		if err == nil {
			_, err = issuance.ParseSerial(raw)
		}
		at, badTime := time.Parse(time.RFC3339, r.At)
		reason, known := reasons[r.Reason]
		switch {
		case err != nil || hex.EncodeToString(raw) != r.Serial:
			return nil, fmt.Errorf("revoked %d: serial must be 32 hex digits as the transcript of its ceremony has them", i+1)
		case seen[r.Serial]:
			return nil, fmt.Errorf("revoked %d: a serial for the second time", i+1)
		case badTime != nil || !at.Equal(at.Truncate(time.Second)):
			return nil, fmt.Errorf("revoked %d: at must be a time such as 2026-01-31T12:00:00Z", i+1)
		case !known:
			return nil, fmt.Errorf("revoked %d: reason must be UNSPECIFIED, KEY_COMPROMISE, CA_COMPROMISE, AFFILIATION_CHANGED, SUPERSEDED or CESSATION_OF_OPERATION", i+1)
		}
		seen[r.Serial] = true
		list = append(list, x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes(raw), RevocationTime: at.UTC(), ReasonCode: reason})
	}
	return list, nil
}

// crlDraft is a CRL that was linted under a throw-away key.
type crlDraft struct {
	template *x509.RevocationList
	issuer   *x509.Certificate
	tbs      []byte
}

// prepareCRL builds the exact bytes to be signed, as Prepare of the engine does
// for certificates, and has the whole CRL linted under a throw-away key.
func prepareCRL(c *CRL, by *issuance.Authority, now time.Time) (*crlDraft, error) {
	entries, err := c.entries()
	if err != nil {
		return nil, err
	}
	thisUpdate := now.UTC().Truncate(time.Second)
	d := &crlDraft{
		template: &x509.RevocationList{
			Number: big.NewInt(c.Number), ThisUpdate: thisUpdate, NextUpdate: thisUpdate.Add(c.Validity.Std()), RevokedCertificateEntries: entries,
		},
		issuer: by.Certificate(),
	}
	standIn, err := standInFor(d.issuer.PublicKey)
	if err != nil {
		return nil, err
	}
	twin := *d.issuer // of the same name and key identifier
	twin.PublicKey = standIn.Public()
	_, list, err := d.signed(&twin, standIn)
	if err != nil {
		return nil, err
	}
	d.tbs = list.RawTBSRevocationList
	return d, nil
}

// sign has the root sign just what was linted.
func (d *crlDraft) sign(key crypto.Signer) ([]byte, error) {
	der, list, err := d.signed(d.issuer, key)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(list.RawTBSRevocationList, d.tbs) {
		return nil, errors.New("what was signed is not the draft")
	}
	return der, nil
}

// signed returns the CRL as a verifier reads it; its lints verify the signature.
func (d *crlDraft) signed(issuer *x509.Certificate, key crypto.Signer) ([]byte, *x509.RevocationList, error) {
	der, err := x509.CreateRevocationList(rand.Reader, d.template, issuer, key)
	if err != nil {
		return nil, nil, err
	}
	if err := lint.Err(lint.CRL(der, issuer)); err != nil {
		return nil, nil, err
	}
	list, err := x509.ParseRevocationList(der)
	return der, list, err
}

// standInFor makes a throw-away key that signs as the given one does.
func standInFor(public crypto.PublicKey) (crypto.Signer, error) {
	algorithm, _, err := issuance.CheckKey(public)
	if err != nil {
		return nil, err
	}
	return throwAway[map[issuance.KeyAlgorithm]hsm.Algorithm{
		issuance.P256: hsm.P256, issuance.P384: hsm.P384, issuance.RSA: hsm.RSA3072, issuance.Ed25519: hsm.Ed25519,
	}[algorithm]]()
}

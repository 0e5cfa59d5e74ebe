package ceremony

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
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

// CRL is a list of the certificates that a CA has revoked. A verifier that
// checks whole chains needs one of every CA in them, even an empty one.
type CRL struct {
	By string `yaml:"by" json:"by"` // a CA of the plan; root or existing_root in the short form
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

func (c *CRL) check(k *checker) error {
	by, ok := k.cas[c.By]
	switch {
	case !ok:
		return fmt.Errorf("by must name a CA of an earlier step, not %q", c.By)
	case by.make != nil && by.make.Request != "":
		return fmt.Errorf("the key of %s is on another token", c.By)
	case by.make != nil && len(c.Revoked) > 0:
		return errors.New("a new CA has revoked nothing")
	case k.crls[c.By]:
		return fmt.Errorf("is the second one of %s", c.By)
	case c.Number < 1:
		return errors.New("number must be 1 or more")
	case c.Validity.Std() > maxCRLValidity:
		return errors.New("validity must be a year at most")
	case len(c.Revoked) > maxRevoked:
		return errors.New("revokes too many certificates")
	}
	k.crls[c.By] = true
	if err := validity(c.Validity); err != nil {
		return err
	}
	if _, err := c.entries(); err != nil {
		return err
	}
	return k.file(hyphens(c.By) + ".crl")
}

func (c *CRL) look(context.Context, *hsm.Token, *work) error { return nil }

func (c *CRL) do(w *work) error {
	by := w.cas[c.By]
	return w.remembered(eventCRL, c.By, func() (map[string]any, error) {
		draft, err := prepareCRL(c, by.Authority, w.now)
		if err != nil {
			return nil, err
		}
		tbs := sha256.Sum256(draft.tbs)
		if err := w.tell(eventCRLDraft, map[string]any{
			"by": c.By, "number": c.Number, "thisUpdate": draft.template.ThisUpdate, "nextUpdate": draft.template.NextUpdate,
			"entries": len(c.Revoked), "tbsSha256": hex.EncodeToString(tbs[:]), "lint": linted,
		}); err != nil {
			return nil, err
		}
		der, err := draft.sign(by.key)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(der)
		return map[string]any{"by": c.By, "number": c.Number, "sha256": hex.EncodeToString(sum[:]), "crl": der}, nil
	}, func(detail map[string]any) error {
		der, err := bytesOf(detail["crl"])
		if err != nil {
			return err
		}
		w.crls[c.By] = der
		return w.write(hyphens(c.By)+".crl", der)
	})
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
	algorithm, err := algorithmOf(public)
	if err != nil {
		return nil, err
	}
	return throwAway[algorithm]()
}

// algorithmOf is the kind of key that a CA of ours with this public key has.
func algorithmOf(public crypto.PublicKey) (hsm.Algorithm, error) {
	algorithm, _, err := issuance.CheckKey(public)
	return map[issuance.KeyAlgorithm]hsm.Algorithm{
		issuance.P256: hsm.P256, issuance.P384: hsm.P384, issuance.RSA: hsm.RSA3072, issuance.Ed25519: hsm.Ed25519,
	}[algorithm], err
}

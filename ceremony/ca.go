package ceremony

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/hsm"
)

// MakeCA is a certificate of a CA: of a new key, or for a request from another token.
type MakeCA struct {
	As        string `yaml:"as" json:"as"`           // its name in this plan and in the files' names
	By        string `yaml:"by" json:"by,omitempty"` // who certifies an intermediate: a CA of this plan
	Authority `yaml:",inline"`
	// Request is a PKCS#10 request in PEM, instead of key, generation and algorithm:
	// a step csr of the ceremony of the other token made it.
	Request string  `yaml:"request" json:"request,omitempty"`
	Backup  *Backup `yaml:"backup" json:"backup,omitempty"` // left out: the key has none and never will
}

type root struct{ *MakeCA }

type intermediate struct{ *MakeCA }

func (m *MakeCA) check(c *checker, role hsm.Role, base issuance.Profile) error {
	if err := c.name(m.As); err != nil {
		return err
	}
	if m.Request != "" {
		if _, err := m.request(); err != nil {
			return err
		}
		if m.Key != "" || m.Generation != 0 || m.Algorithm != "" || m.Backup != nil {
			return errors.New("the key is the request's: key, generation, algorithm and backup do not go with it")
		}
	} else {
		if err := c.label(m.ref(role)); err != nil {
			return err
		}
		if _, ok := throwAway[m.Algorithm]; !ok {
			return errors.New("algorithm must be P-256, P-384, RSA-3072 or Ed25519")
		}
		if err := c.backup(m.ref(role), m.Backup); err != nil {
			return err
		}
	}
	if err := validity(m.Validity); err != nil {
		return err
	}
	profile := m.profile(base)
	if err := profile.Validate(); err != nil {
		return err
	}
	for as, other := range c.cas {
		if other.make != nil && other.make.Subject == m.Subject {
			return fmt.Errorf("%s and %s need different subjects", as, m.As)
		}
	}
	return nil
}

func (m *MakeCA) request() (*issuance.Request, error) {
	block, rest := pem.Decode([]byte(m.Request))
	if block == nil || block.Type != "CERTIFICATE REQUEST" || strings.TrimSpace(string(rest)) != "" || !strings.HasPrefix(m.Request, "-----BEGIN") {
		return nil, errors.New("request must be one PKCS#10 request in PEM")
	}
	return issuance.ParseRequest(block.Bytes)
}

func (r root) check(c *checker) error {
	if r.By != "" || r.Request != "" {
		return errors.New("a root certifies itself: by and request do not go with it")
	}
	if err := r.MakeCA.check(c, hsm.RoleRoot, issuance.Root()); err != nil {
		return err
	}
	c.cas[r.As] = planned{make: r.MakeCA}
	return c.file(hyphens(r.As) + ".pem")
}

func (m intermediate) check(c *checker) error {
	by, ok := c.cas[m.By]
	if !ok {
		return fmt.Errorf("by must name a CA of an earlier step, not %q", m.By)
	}
	if err := m.MakeCA.check(c, hsm.RoleIssuer, issuance.Issuer()); err != nil {
		return err
	}
	if by.make != nil && m.Validity > by.make.Validity {
		return fmt.Errorf("it would outlive %s, which certifies it", m.By)
	}
	c.cas[m.As] = planned{make: m.MakeCA}
	return c.file(hyphens(m.As) + "-chain.pem")
}

func (r root) look(ctx context.Context, token *hsm.Token, _ *work) error {
	return labelFree(ctx, token, r.ref(hsm.RoleRoot))
}

func (m intermediate) look(ctx context.Context, token *hsm.Token, _ *work) error {
	if m.Request != "" {
		return nil
	}
	return labelFree(ctx, token, m.ref(hsm.RoleIssuer))
}

// labelFree refuses a label that has an owner, were it only half a key.
func labelFree(ctx context.Context, token *hsm.Token, ref hsm.Ref) error {
	switch _, err := token.Lookup(ctx, ref); {
	case errors.Is(err, hsm.ErrKeyNotFound):
		return nil
	case err == nil, errors.Is(err, hsm.ErrAmbiguous), errors.Is(err, hsm.ErrTemplate):
		return fmt.Errorf("%w: %s: take the next generation", ErrLabel, ref)
	default:
		return err
	}
}

func (r root) do(w *work) error {
	ref := r.ref(hsm.RoleRoot)
	key, err := w.key(ref, r.Algorithm, r.Backup)
	if err != nil {
		return err
	}
	der, err := w.certify(r.As, step{profile: r.profile(issuance.Root()), subject: r.subject(), key: key, signer: key})
	if err != nil {
		return err
	}
	if err := w.made(&authority{as: r.As, ref: ref, key: key, chain: [][]byte{der}}); err != nil {
		return err
	}
	return w.write(hyphens(r.As)+".pem", pemOf(der))
}

func (m intermediate) do(w *work) error {
	by := w.cas[m.By]
	s := step{issuer: by.Authority, profile: m.profile(issuance.Issuer()), subject: m.subject(), signer: by.key}
	var ref hsm.Ref
	if m.Request != "" {
		request, err := m.request()
		if err != nil {
			return err
		}
		s.request = request
	} else {
		ref = m.ref(hsm.RoleIssuer)
		key, err := w.key(ref, m.Algorithm, m.Backup)
		if err != nil {
			return err
		}
		s.key = key
	}
	if by.existing { // a new root's end may be a second earlier than asked, an old one's is known
		s.whole = m.Validity.Std()
	}
	der, err := w.certify(m.As, s)
	if err != nil {
		return err
	}
	if err := w.made(&authority{as: m.As, by: m.By, ref: ref, key: s.key, chain: append([][]byte{der}, by.chain...)}); err != nil {
		return err
	}
	return w.write(hyphens(m.As)+"-chain.pem", pemOf(w.cas[m.As].chain...))
}

// authority is a CA that steps stand on.
type authority struct {
	*issuance.Authority
	as, by   string
	ref      hsm.Ref
	key      crypto.Signer // nil: on another token
	chain    [][]byte      // its own certificate first
	existing bool
}

// made takes a CA into the plan's world, its chain verified.
func (w *work) made(a *authority) (err error) {
	if a.Authority, err = issuance.NewAuthority(a.chain[0]); err != nil {
		return err
	}
	if err := issuance.VerifyChain(a.chain, w.now); err != nil {
		return err
	}
	w.cas[a.as] = a
	w.order = append(w.order, a)
	return nil
}

// CSR is a new key and a request for its certificate, for a CA on another token.
type CSR struct {
	As         string        `yaml:"as" json:"as"`
	Key        string        `yaml:"key" json:"key"`
	Generation int           `yaml:"generation" json:"generation"`
	Algorithm  hsm.Algorithm `yaml:"algorithm" json:"algorithm"`
	Subject    Subject       `yaml:"subject" json:"subject"` // for people to compare: the CA takes the subject of its own plan
	Backup     *Backup       `yaml:"backup" json:"backup,omitempty"`
}

func (q *CSR) ref() hsm.Ref {
	return hsm.Ref{Tenant: system, Role: hsm.RoleIssuer, Name: q.Key, Generation: q.Generation}
}

func (q *CSR) check(c *checker) error {
	if err := c.name(q.As); err != nil {
		return err
	}
	if err := c.label(q.ref()); err != nil {
		return err
	}
	if _, ok := throwAway[q.Algorithm]; !ok {
		return errors.New("algorithm must be P-256, P-384, RSA-3072 or Ed25519")
	}
	a := Authority{Subject: q.Subject, Validity: 1}
	profile := issuance.Issuer()
	if err := profile.Validate(); err != nil || a.Subject.CommonName == "" {
		return errors.New("subject needs a common_name")
	}
	if err := c.backup(q.ref(), q.Backup); err != nil {
		return err
	}
	return c.file(hyphens(q.As) + ".csr")
}

func (q *CSR) look(ctx context.Context, token *hsm.Token, _ *work) error {
	return labelFree(ctx, token, q.ref())
}

func (q *CSR) do(w *work) error {
	key, err := w.key(q.ref(), q.Algorithm, q.Backup)
	if err != nil {
		return err
	}
	return w.remembered(eventRequest, q.As, func() (map[string]any, error) {
		scheme, err := issuance.SchemeOf(key.Public())
		if err != nil {
			return nil, err
		}
		one := func(s string) []string {
			if s == "" {
				return nil
			}
			return []string{s}
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
			SignatureAlgorithm: scheme.Algorithm(), Subject: pkix.Name{
				Country: one(q.Subject.Country), Organization: one(q.Subject.Organization),
				OrganizationalUnit: one(q.Subject.OrganizationalUnit), CommonName: q.Subject.CommonName,
			},
		}, key)
		if err != nil {
			return nil, err
		}
		if _, err := issuance.ParseRequest(der); err != nil { // its signature too
			return nil, err
		}
		return map[string]any{"request": der}, nil
	}, func(detail map[string]any) error {
		der, err := bytesOf(detail["request"])
		if err != nil {
			return err
		}
		return w.write(hyphens(q.As)+".csr", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	})
}

// standIn makes, for a rehearsal, a certificate that differs from a real CA's in
// its key only: what is drafted under it is what the real one will sign.
func standIn(real *x509.Certificate, key crypto.Signer) ([]byte, error) {
	twin := &x509.Certificate{
		SerialNumber: real.SerialNumber, RawSubject: real.RawSubject, NotBefore: real.NotBefore, NotAfter: real.NotAfter,
		KeyUsage: real.KeyUsage, BasicConstraintsValid: true, IsCA: true, MaxPathLen: real.MaxPathLen, MaxPathLenZero: real.MaxPathLenZero,
		SubjectKeyId: real.SubjectKeyId,
	}
	return x509.CreateCertificate(rand.Reader, twin, twin, key.Public(), key)
}

// until refuses an end that the engine has cut to the issuer's in silence.
func until(d *issuance.Draft, asked time.Duration) error {
	if asked != 0 && d.NotAfter().Sub(d.NotBefore())+time.Second != asked {
		return fmt.Errorf("its certificate would outlive the CA that signs it (%s): shorten its validity", d.NotAfter().UTC().Format(time.RFC3339))
	}
	return nil
}

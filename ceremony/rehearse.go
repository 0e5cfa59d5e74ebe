package ceremony

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"time"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
	"github.com/signet-hsm/signet/hsm"
)

// throwAway makes a key in memory that stands in for the HSM's.
var throwAway = map[hsm.Algorithm]func() (crypto.Signer, error){
	hsm.P256:    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
	hsm.P384:    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
	hsm.RSA3072: func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 3072) },
	hsm.Ed25519: func() (crypto.Signer, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	},
}

// rehearse makes everything in the plan with throw-away keys in memory, and under
// each new issuer a signer and a device, and has each linted: a profile that does
// not fit is found before a key exists that would have to be explained for ever.
// What an existing CA will sign is drafted under a certificate that differs from
// its own in the key only.
func rehearse(p *Plan, now time.Time) error {
	w := newWork(context.Background(), p, now, inMemory{})
	for i, s := range p.steps() {
		kind, a, err := s.action()
		if err == nil {
			w.step = i + 1
			err = a.do(w)
		}
		if err != nil {
			return fmt.Errorf("step %d (%s): %w", i+1, kind, err)
		}
	}
	for _, a := range w.order {
		if a.by != "" && !a.existing {
			if err := w.below(a); err != nil {
				return fmt.Errorf("below %s: %w", a.as, err)
			}
		}
	}
	return nil
}

// below makes a signer and a device under an issuer whose key is at hand.
func (w *work) below(a *authority) error {
	if a.key == nil {
		return nil
	}
	key, err := throwAway[hsm.P256]()
	if err != nil {
		return err
	}
	device := issuance.Subject{Organization: "rehearsal", CommonName: "rehearsal"}
	signer := device
	signer.SerialNumber = "rehearsal"
	above, with, chain := a.Authority, a.key, a.chain
	for _, s := range []step{{profile: issuance.Signer(), subject: signer, key: key}, {profile: issuance.ASTDevice(), subject: device, key: key}} {
		s.issuer = above
		draft, err := prepare(s, rand.Reader, w.now)
		if err != nil {
			return fmt.Errorf("%s: %w", s.profile.Name, err)
		}
		der, err := draft.Sign(with)
		if err != nil {
			return fmt.Errorf("%s: %w", s.profile.Name, err)
		}
		chain = append([][]byte{der}, chain...)
		if s.profile.CA {
			if above, err = issuance.NewAuthority(der); err != nil {
				return err
			}
			with = key
		}
	}
	return issuance.VerifyChain(chain, w.now)
}

// inMemory is the bench of a rehearsal without a token.
type inMemory struct{}

func (inMemory) generate(_ *work, _ hsm.Ref, alg hsm.Algorithm, _ *Backup) (crypto.Signer, error) {
	if generate, ok := throwAway[alg]; ok {
		return generate()
	}
	return nil, nil // a secret key: nothing is signed by it
}

func (inMemory) existing(_ *work, e *Existing, _ [][]byte) (crypto.Signer, [][]byte, error) {
	real, err := e.authority()
	if err != nil {
		return nil, nil, err
	}
	key, err := standInFor(real.Certificate().PublicKey)
	if err != nil {
		return nil, nil, err
	}
	der, err := standIn(real.Certificate(), key)
	return key, [][]byte{der}, err
}

func (inMemory) random(*work) io.Reader { return rand.Reader }

// prepare drafts one certificate. The profile and the draft are linted by it.
func prepare(s step, random io.Reader, now time.Time) (*issuance.Draft, error) {
	linter, err := lint.New(lint.Config{Now: func() time.Time { return now }}) // every draft in full
	if err != nil {
		return nil, err
	}
	template, err := s.profile.Compile(issuance.Checks{Linter: linter})
	if err != nil {
		return nil, err
	}
	request := s.request
	if request == nil {
		csr, err := issuance.NewRequest(s.key)
		if err != nil {
			return nil, err
		}
		if request, err = issuance.ParseRequest(csr); err != nil {
			return nil, err
		}
	}
	serial, err := issuance.NewSerial(random)
	if err != nil {
		return nil, err
	}
	draft, err := issuance.Prepare(issuance.Order{Issuer: s.issuer, Profile: template, Request: request, Subject: s.subject, Serial: serial, Now: now})
	if err != nil {
		return nil, err
	}
	return draft, until(draft, s.whole)
}

package main

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/ThalesGroup/crypto11"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
)

// process measures in this process. "raw" is one instance of the module with the
// signer's own key, from two threads in C; "ceiling" two instances with session
// copies of a key that allows it.
func (b *bench) process() (err error) {
	w, err := newWorld(b.ctx, b.disk, b.memory)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	sampled, err := w.authority(b.ctx, 100)
	if err != nil {
		return err
	}
	every, err := w.authority(b.ctx, 1)
	if err != nil {
		return err
	}
	signer, err := sampled.CreateSigner(b.ctx, bank, ca.CreateSigner{})
	if err != nil {
		return err
	}
	asked, err := csr(&x509.CertificateRequest{})
	if err != nil {
		return err
	}
	durable := func(a *ca.Authority) func(int) error {
		return func(int) error {
			_, err := a.IssueDevice(b.ctx, bank, ca.IssueRequest{CSR: asked, User: "jane", Client: client, Actor: "bench"})
			return err
		}
	}
	bare, err := w.bare(b, signer)
	if err != nil {
		return err
	}
	modules, err := w.modules(3)
	if err != nil {
		return err
	}
	const copyable = "copyable"
	peer, done, err := w.crypto11(modules[2], copyable)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()

	counts := []int{1, 8, 32}
	if b.quick {
		counts = counts[1:2]
	}
	for _, do := range []func(int) error{durable(sampled), durable(every), bare, peer} {
		if err := b.warm(do); err != nil {
			return err
		}
	}
	pg := servers(w.cluster.PID())
	for round := range b.rounds {
		for _, c := range []struct {
			name, key string
			copied    int
			modules   []string
		}{
			{"raw", signerRef.String(), 0, modules[:1]},
			{"ceiling", copyable, 1, modules[:2]},
		} {
			if err := b.rawc(w, fmt.Sprintf("Issue/round=%d/%s", round, c.name), c.key, c.copied, c.modules...); err != nil {
				return err
			}
		}
		for _, callers := range counts {
			for _, way := range []struct {
				name string
				do   func(int) error
				cpu  func() time.Duration
			}{
				{"sampled", durable(sampled), pg},
				{"every", durable(every), pg},
				{"bare", bare, nil},
				{"crypto11", peer, nil},
			} {
				if err := b.one(fmt.Sprintf("Issue/callers=%d/round=%d/%s", callers, round, way.name), callers, way.cpu, way.do); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// bare is the engine with the HSM and without a database: draft and signature. The
// request was checked once.
func (w *world) bare(b *bench, signer ca.Signer) (func(int) error, error) {
	order, err := w.draft(signer.Certificate)
	if err != nil {
		return nil, err
	}
	key, err := w.token.Signer(b.ctx, signerRef)
	if err != nil {
		return nil, err
	}
	return func(int) error {
		o := order
		var err error
		if o.Serial, err = issuance.NewSerial(rand.Reader); err != nil {
			return err
		}
		d, err := issuance.Prepare(o)
		if err != nil {
			return err
		}
		_, err = d.Sign(key)
		return err
	}, nil
}

// modules are copies of the library that nobody else has loaded.
func (w *world) modules(n int) ([]string, error) {
	raw, err := os.ReadFile(w.st.Module)
	if err != nil {
		return nil, err
	}
	paths := make([]string, n)
	for i := range paths {
		paths[i] = filepath.Join(w.st.Dir, fmt.Sprintf("bench-%d.so", i))
		if err := os.WriteFile(paths[i], raw, 0o700); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// crypto11 makes a key that may be copied, and issues with it the way most
// programs in Go do: x509.CreateCertificate, no request checked, nothing stored.
func (w *world) crypto11(module, label string) (func(int) error, func() error, error) {
	if err := os.Setenv("SOFTHSM2_CONF", w.st.Conf); err != nil {
		return nil, nil, err
	}
	c, err := crypto11.Configure(&crypto11.Config{Path: module, TokenLabel: w.st.Label, Pin: string(w.st.PIN.Reveal()), MaxSessions: 5})
	if err != nil {
		return nil, nil, err
	}
	key, err := c.GenerateECDSAKeyPairWithLabel([]byte("copyable-id"), []byte(label), elliptic.P256())
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	issuer := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Signer"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: make([]byte, 20), PublicKey: key.Public(),
	}
	der, err := csr(&x509.CertificateRequest{})
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	asked, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	return func(int) error {
		var serial [16]byte
		_, _ = rand.Read(serial[:])
		now := time.Now()
		_, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: new(big.Int).SetBytes(serial[:]), Subject: pkix.Name{CommonName: client}, NotBefore: now, NotAfter: now.AddDate(1, 0, 0),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		}, issuer, asked.PublicKey, key)
		return err
	}, c.Close, nil
}

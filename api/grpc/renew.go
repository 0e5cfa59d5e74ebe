package grpc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/ca"
)

// proofAge is how far the clock of a certificate's holder may be from ours. It
// bounds for how long a recorded proof can be shown again: that gives nobody a
// certificate but the holder of the new key, but this key may be lost by then.
const proofAge = 5 * time.Minute

// proofContext keeps a proof from being taken for anything else that the
// certificate's key signs. (TLS begins what it signs with blanks or with a hash,
// a certificate request begins with 0x30.)
const proofContext = "signet.v1 RenewCertificate\x00"

// maxRSABits of an old certificate's key.
const maxRSABits = 8192

// RenewCertificate lets the domain judge the old certificate; here it is only
// proven that its holder asks.
func (s certificates) RenewCertificate(ctx context.Context, req *signetv1.RenewCertificateRequest) (*signetv1.RenewCertificateResponse, error) {
	if len(req.GetCsr()) == 0 {
		return nil, missing("csr")
	}
	var old *x509.Certificate
	var err error
	if proof := req.GetProof(); proof != nil {
		old, err = proven(proof, req.GetCsr(), s.server.c.Now())
	} else if old = clientCertificate(ctx); old == nil {
		err = bad("proof", "must be present on a connection without a client certificate")
	}
	if err != nil {
		return nil, err
	}
	p := principal(ctx)
	c, err := s.authority.RenewDevice(ctx, p.Tenant, ca.RenewDevice{Peer: old, Signed: req.GetProof() != nil, CSR: req.GetCsr(), Actor: p.Name})
	if err != nil {
		return nil, err
	}
	return &signetv1.RenewCertificateResponse{Issued: issuedCertificate(c)}, nil
}

// clientCertificate is the one whose key the other end of the connection has
// shown to hold in the TLS handshake; nil without one.
func clientCertificate(ctx context.Context) *x509.Certificate {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return nil
	}
	return info.State.PeerCertificates[0]
}

// proven returns the certificate of a proof that is by its key, for this request
// and of these minutes.
func proven(p *signetv1.RenewalProof, csr []byte, now time.Time) (*x509.Certificate, error) {
	old, err := x509.ParseCertificate(p.GetCertificate())
	if err != nil {
		return nil, bad("proof.certificate", "must be one X.509 certificate in DER")
	}
	at := p.GetSignedAt()
	if at.CheckValid() != nil || at.AsTime().Sub(now).Abs() > proofAge {
		return nil, bad("proof.signed_at", "must be within five minutes of the service's clock")
	}
	var algorithm x509.SignatureAlgorithm
	switch key := old.PublicKey.(type) {
	case *ecdsa.PublicKey:
		algorithm = x509.ECDSAWithSHA256
		if key.Curve == elliptic.P384() {
			algorithm = x509.ECDSAWithSHA384
		}
	case *rsa.PublicKey:
		if key.N.BitLen() > maxRSABits { // whoever made it up, it would cost us
			return nil, fmt.Errorf("%w: the proof: a key of %d bits", ca.ErrPeer, key.N.BitLen())
		}
		algorithm = x509.SHA256WithRSA
	case ed25519.PublicKey:
		algorithm = x509.PureEd25519
	}
	if err := old.CheckSignature(algorithm, renewalMessage(old.Raw, csr, at.GetSeconds()), p.GetSignature()); err != nil {
		return nil, fmt.Errorf("%w: the proof: %w", ca.ErrPeer, err)
	}
	return old, nil
}

// renewalMessage is what a proof signs, as certificate.proto has it.
func renewalMessage(old, csr []byte, at int64) []byte {
	ofOld, ofCSR := sha256.Sum256(old), sha256.Sum256(csr)
	m := append([]byte(proofContext), ofOld[:]...)
	m = append(m, ofCSR[:]...)
	return binary.BigEndian.AppendUint64(m, uint64(at))
}

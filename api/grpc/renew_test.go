package grpc_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/timestamppb"

	api "github.com/signet-hsm/signet/api/grpc"
	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
)

// holder has a certificate and its key, and wants the next one.
type holder struct {
	key              crypto.Signer
	certificate, csr []byte
}

// someHolder's certificate is nobody's.
var someHolder = newHolder()

func newHolder() *holder {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return holderOf(key)
}

func holderOf(key crypto.Signer) *holder {
	template := &x509.Certificate{SerialNumber: big.NewInt(1 << 40), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	csr, err := issuance.NewRequest(key)
	if err != nil {
		panic(err)
	}
	return &holder{key, der, csr}
}

// proof is made as certificate.proto says, and not by the code under test.
func (h *holder) proof(at time.Time) *signetv1.RenewalProof {
	certificate, csr := sha256.Sum256(h.certificate), sha256.Sum256(h.csr)
	var seconds [8]byte
	binary.BigEndian.PutUint64(seconds[:], uint64(at.Unix()))
	message := append([]byte("signet.v1 RenewCertificate"), 0)
	message = append(append(append(message, certificate[:]...), csr[:]...), seconds[:]...)
	digest, hash := sha256.Sum256(message), crypto.SHA256
	signed := digest[:]
	switch public := h.key.Public().(type) {
	case ed25519.PublicKey:
		signed, hash = message, 0
	case *ecdsa.PublicKey:
		if public.Curve == elliptic.P384() {
			long := sha512.Sum384(message)
			signed, hash = long[:], crypto.SHA384
		}
	}
	signature, err := h.key.Sign(rand.Reader, signed, hash)
	if err != nil {
		panic(err)
	}
	return &signetv1.RenewalProof{Certificate: h.certificate, SignedAt: timestamppb.New(at), Signature: signature}
}

// certified has the holder's key certified by alpha, as a device's or otherwise.
func (w *world) certified(t *testing.T, h *holder, profile string) ca.Certificate {
	t.Helper()
	c, err := w.Authority.Issue(t.Context(), pgtest.Alpha, ca.IssueRequest{Profile: profile, CSR: h.csr, User: "jane", Client: clientID, Actor: "test"})
	require.NoError(t, err)
	h.certificate = c.DER
	return c
}

// renewed checks that an answer is a certificate like the old one, for the key.
func renewed(t *testing.T, resp *signetv1.RenewCertificateResponse, old []byte, key crypto.PublicKey) {
	t.Helper()
	before, err := x509.ParseCertificate(old)
	require.NoError(t, err)
	after, err := x509.ParseCertificate(resp.GetIssued().GetCertificate())
	require.NoError(t, err)
	require.NotEqual(t, before.SerialNumber, after.SerialNumber)
	require.Equal(t, before.RawSubject, after.RawSubject)
	require.Equal(t, before.ExtKeyUsage, after.ExtKeyUsage)
	require.True(t, after.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(key))
}

func TestCAX03_RenewCertificateByProof(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.Authority.CreateSigner(t.Context(), pgtest.Alpha, ca.CreateSigner{})
	require.NoError(t, err)
	client := signetv1.NewCertificateServiceClient(w.conn)

	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	for name, key := range map[string]crypto.Signer{"P-256": newHolder().key, "P-384": p384, "RSA": rsaKey, "Ed25519": edwards} {
		h := holderOf(key)
		w.certified(t, h, "SIGNATURE")
		resp, err := client.RenewCertificate(w.client, &signetv1.RenewCertificateRequest{Csr: h.csr, Proof: h.proof(time.Now())})
		require.NoError(t, err, name)
		renewed(t, resp, h.certificate, key.Public())

		next := newHolder() // rekey: the request is by the new key, the proof by the old
		h.csr = next.csr
		resp, err = client.RenewCertificate(w.writer, &signetv1.RenewCertificateRequest{Csr: h.csr, Proof: h.proof(time.Now().Add(4 * time.Minute))})
		require.NoError(t, err, name)
		renewed(t, resp, h.certificate, next.key.Public())
		info, err := client.GetCertificate(w.reader, &signetv1.GetCertificateRequest{CertRef: resp.GetIssued().GetCertRef()})
		require.NoError(t, err)
		require.Equal(t, "SIGNATURE jane", info.GetInfo().GetProfile()+" "+info.GetInfo().GetUser())
	}
}

func TestCAX03_RenewCertificateRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.Authority.CreateSigner(t.Context(), pgtest.Alpha, ca.CreateSigner{})
	require.NoError(t, err)
	_, err = w.Authority.CreateSigner(t.Context(), pgtest.Beta, ca.CreateSigner{})
	require.NoError(t, err)
	client := signetv1.NewCertificateServiceClient(w.conn)
	h, other := newHolder(), newHolder()
	w.certified(t, h, "")
	w.certified(t, other, "")
	now := time.Now()
	_, total, err := w.Authority.ListCertificates(t.Context(), pgtest.Alpha, ca.Page{})
	require.NoError(t, err)

	good := func() *signetv1.RenewCertificateRequest {
		return &signetv1.RenewCertificateRequest{Csr: h.csr, Proof: h.proof(now)}
	}
	for name, c := range map[string]struct {
		change func(*signetv1.RenewCertificateRequest)
		code   codes.Code
		reason string
		fields []string
	}{
		"no csr":         {func(r *signetv1.RenewCertificateRequest) { r.Csr = nil }, codes.InvalidArgument, "REQUEST_INVALID", []string{"csr"}},
		"no proof":       {func(r *signetv1.RenewCertificateRequest) { r.Proof = nil }, codes.InvalidArgument, "REQUEST_INVALID", []string{"proof"}},
		"no certificate": {func(r *signetv1.RenewCertificateRequest) { r.Proof.Certificate = nil }, codes.InvalidArgument, "REQUEST_INVALID", []string{"proof.certificate"}},
		"two in one": {func(r *signetv1.RenewCertificateRequest) {
			r.Proof.Certificate = append(h.certificate, h.certificate...)
		}, codes.InvalidArgument, "REQUEST_INVALID", []string{"proof.certificate"}},
		"no time":         {func(r *signetv1.RenewCertificateRequest) { r.Proof.SignedAt = nil }, codes.InvalidArgument, "REQUEST_INVALID", []string{"proof.signed_at"}},
		"recorded":        {func(r *signetv1.RenewCertificateRequest) { r.Proof = h.proof(now.Add(-6 * time.Minute)) }, codes.InvalidArgument, "REQUEST_INVALID", []string{"proof.signed_at"}},
		"of the future":   {func(r *signetv1.RenewCertificateRequest) { r.Proof = h.proof(now.Add(6 * time.Minute)) }, codes.InvalidArgument, "REQUEST_INVALID", []string{"proof.signed_at"}},
		"of another time": {func(r *signetv1.RenewCertificateRequest) { r.Proof.SignedAt = timestamppb.New(now.Add(time.Second)) }, codes.PermissionDenied, "CERTIFICATE_REFUSED", nil},
		"of another csr":  {func(r *signetv1.RenewCertificateRequest) { r.Csr = other.csr }, codes.PermissionDenied, "CERTIFICATE_REFUSED", nil},
		"by another key":  {func(r *signetv1.RenewCertificateRequest) { r.Proof.Signature = other.proof(now).GetSignature() }, codes.PermissionDenied, "CERTIFICATE_REFUSED", nil},
		"for another":     {func(r *signetv1.RenewCertificateRequest) { r.Proof.Certificate = other.certificate }, codes.PermissionDenied, "CERTIFICATE_REFUSED", nil},
		"no signature":    {func(r *signetv1.RenewCertificateRequest) { r.Proof.Signature = nil }, codes.PermissionDenied, "CERTIFICATE_REFUSED", nil},
		"self-made":       {func(r *signetv1.RenewCertificateRequest) { r.Csr, r.Proof = someHolder.csr, someHolder.proof(now) }, codes.PermissionDenied, "CERTIFICATE_REFUSED", nil},
		"no PKCS#10": {func(r *signetv1.RenewCertificateRequest) {
			r.Csr = []byte("x")
			r.Proof = (&holder{h.key, h.certificate, r.GetCsr()}).proof(now)
		}, codes.InvalidArgument, "CSR_INVALID", nil},
	} {
		req := good()
		c.change(req)
		_, err := client.RenewCertificate(w.client, req)
		require.Error(t, err, name)
		t.Run(name, func(t *testing.T) { requireStatus(t, err, c.code, c.reason, c.fields...) })
	}
	_, err = client.RenewCertificate(w.betaWriter, good())
	requireStatus(t, err, codes.PermissionDenied, "CERTIFICATE_REFUSED")
	_, err = client.RenewCertificate(w.reader, good())
	requireStatus(t, err, codes.PermissionDenied, "FORBIDDEN")
	_, after, err := w.Authority.ListCertificates(t.Context(), pgtest.Alpha, ca.Page{})
	require.NoError(t, err)
	require.Equal(t, total, after, "nothing was stored")

	// A certificate that is revoked entitles to nothing.
	leaf, err := x509.ParseCertificate(h.certificate)
	require.NoError(t, err)
	var serial issuance.Serial
	leaf.SerialNumber.FillBytes(serial[:])
	require.NoError(t, w.Authority.RevokeCertificate(t.Context(), pgtest.Alpha, ca.RevokeCertificate{Serial: serial, Reason: revocation.KeyCompromise, Actor: "test"}))
	_, err = client.RenewCertificate(w.client, good())
	requireStatus(t, err, codes.PermissionDenied, "CERTIFICATE_REFUSED")
}

// A key that only a fool or an attacker has is refused before its signature costs
// anything.
func TestRenewCertificateByAGiantKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	giant := &rsa.PublicKey{N: new(big.Int).SetBit(new(big.Int).Lsh(big.NewInt(1), 60_000), 0, 1), E: 1<<31 - 1}
	template := &x509.Certificate{SerialNumber: big.NewInt(1 << 40), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, giant, someHolder.key)
	require.NoError(t, err)
	started := time.Now()
	_, err = signetv1.NewCertificateServiceClient(w.conn).RenewCertificate(w.client, &signetv1.RenewCertificateRequest{
		Csr: someHolder.csr, Proof: &signetv1.RenewalProof{Certificate: der, SignedAt: timestamppb.Now(), Signature: make([]byte, 7501)},
	})
	requireStatus(t, err, codes.PermissionDenied, "CERTIFICATE_REFUSED")
	require.Less(t, time.Since(started), time.Second)
}

// When the listener knows the installation's root, a device proves who it is by
// the TLS handshake itself.
func TestCAX03_RenewCertificateByTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server, serverPool := selfSigned(t)
	tier, tierPool := selfSigned(t)
	root, err := x509.ParseCertificate(w.Root)
	require.NoError(t, err)
	tierPool.AddCert(root)
	address := listen(t, api.Config{
		Authority: w.Authority, Verifier: w.Registrations, Realms: w.Realms, Basic: w.Basic,
		TLS: &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: tierPool, MinVersion: tls.VersionTLS13},
	})
	as := func(c tls.Certificate) signetv1.CertificateServiceClient {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			RootCAs: serverPool, Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS13,
		})))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, conn.Close()) })
		return signetv1.NewCertificateServiceClient(conn)
	}
	_, err = w.Authority.CreateSigner(t.Context(), pgtest.Alpha, ca.CreateSigner{})
	require.NoError(t, err)
	h, next := newHolder(), newHolder()
	made := w.certified(t, h, "")
	device := as(tls.Certificate{Certificate: append([][]byte{made.DER}, made.Chain...), PrivateKey: h.key})
	for _, to := range []*holder{h, next} {
		resp, err := device.RenewCertificate(w.client, &signetv1.RenewCertificateRequest{Csr: to.csr})
		require.NoError(t, err)
		renewed(t, resp, h.certificate, to.key.Public())
	}
	_, err = device.RenewCertificate(w.betaWriter, &signetv1.RenewCertificateRequest{Csr: h.csr})
	requireStatus(t, err, codes.PermissionDenied, "CERTIFICATE_REFUSED")
	_, err = device.RenewCertificate(t.Context(), &signetv1.RenewCertificateRequest{Csr: h.csr})
	requireStatus(t, err, codes.Unauthenticated, "UNAUTHENTICATED")

	// The tier's own certificate is not one of ours; it passes its devices' proofs on.
	_, err = as(tier).RenewCertificate(w.client, &signetv1.RenewCertificateRequest{Csr: h.csr})
	requireStatus(t, err, codes.PermissionDenied, "CERTIFICATE_REFUSED")
	resp, err := as(tier).RenewCertificate(w.client, &signetv1.RenewCertificateRequest{Csr: h.csr, Proof: h.proof(time.Now())})
	require.NoError(t, err)
	renewed(t, resp, h.certificate, h.key.Public())

	// The connection is older than the revocation, which counts all the same.
	require.NoError(t, w.Authority.RevokeCertificate(t.Context(), pgtest.Alpha, ca.RevokeCertificate{Ref: made.Ref, Actor: "test"}))
	_, err = device.RenewCertificate(w.client, &signetv1.RenewCertificateRequest{Csr: h.csr})
	requireStatus(t, err, codes.PermissionDenied, "CERTIFICATE_REFUSED")
}

// listen runs a server for the test and returns its address.
func listen(t *testing.T, c api.Config) string {
	t.Helper()
	s, err := api.New(c)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() { stop(); require.NoError(t, <-done) })
	return l.Addr().String()
}

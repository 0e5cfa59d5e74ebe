package grpc_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	api "github.com/signet-hsm/signet/api/grpc"
	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/tenant"
)

// signer makes one of alpha's, the next generation.
func (w *world) signer(tb testing.TB) ca.Signer {
	tb.Helper()
	s, err := w.Authority.CreateSigner(tb.Context(), pgtest.Alpha, ca.CreateSigner{Actor: "test"})
	require.NoError(tb, err)
	return s
}

// device has a certificate of alpha's issued to a user.
func (w *world) device(tb testing.TB, user string) ca.Certificate {
	tb.Helper()
	c, err := w.Authority.IssueDevice(tb.Context(), pgtest.Alpha, ca.IssueRequest{CSR: csr(tb), User: user, Client: clientID, Actor: "test"})
	require.NoError(tb, err)
	return c
}

func TestCA05_CA12_Filters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	signers, certificates := signetv1.NewSignerServiceClient(w.conn), signetv1.NewCertificateServiceClient(w.conn)
	first, second := w.signer(t), w.signer(t)
	jane, joe := w.device(t, "jane"), w.device(t, "joe")

	list, err := signers.ListSigners(w.reader, &signetv1.ListSignersRequest{Filter: "state = RETIRED or generation > 5"})
	require.NoError(t, err)
	require.EqualValues(t, 1, list.GetTotal())
	require.Equal(t, first.ID, list.GetSigners()[0].GetId())
	page, err := certificates.ListCertificates(w.reader, &signetv1.ListCertificatesRequest{PageSize: 5})
	require.NoError(t, err)
	require.EqualValues(t, 4, page.GetTotal(), "two devices' and two signers'")
	require.Equal(t, []string{joe.Ref, jane.Ref}, []string{page.GetCertificates()[0].GetCertRef(), page.GetCertificates()[1].GetCertRef()})
	page, err = certificates.ListCertificates(w.reader, &signetv1.ListCertificatesRequest{Filter: "user ^= ja and status = ISSUED"})
	require.NoError(t, err)
	require.Len(t, page.GetCertificates(), 1)
	got := page.GetCertificates()[0]
	require.Equal(t, []string{jane.Ref, second.ID, "jane", clientID, "AST_DEVICE"},
		[]string{got.GetCertRef(), got.GetSigner(), got.GetUser(), got.GetClient(), got.GetProfile()})
	require.Equal(t, signetv1.CertificateStatus_CERTIFICATE_STATUS_ISSUED, got.GetStatus())
	require.WithinRange(t, got.GetIssuedAt().AsTime(), got.GetRequestedAt().AsTime(), time.Now().Add(time.Second))
	page, err = certificates.ListCertificates(w.reader, &signetv1.ListCertificatesRequest{Page: 7})
	require.NoError(t, err)
	require.Empty(t, page.GetCertificates())
	require.EqualValues(t, 4, page.GetTotal())

	for text, reason := range map[string]string{"name = ": "FILTER_SYNTAX", "certRef = x": "FILTER_PROPERTY", "(name = x": "FILTER_SYNTAX"} {
		_, err = signers.ListSigners(w.reader, &signetv1.ListSignersRequest{Filter: text})
		requireStatus(t, err, codes.InvalidArgument, reason, "filter")
		require.Regexp(t, `column \d+: `, violation(err), "it says where")
	}
	_, err = certificates.ListCertificates(w.reader, &signetv1.ListCertificatesRequest{Filter: "name = x"})
	requireStatus(t, err, codes.InvalidArgument, "FILTER_PROPERTY", "filter")
	_, err = certificates.ListCertificates(w.reader, &signetv1.ListCertificatesRequest{Page: -1, PageSize: 4})
	requireStatus(t, err, codes.InvalidArgument, "CA_REQUEST", "page", "page_size")

	list, err = signers.ListSigners(w.betaWriter, &signetv1.ListSignersRequest{})
	require.NoError(t, err)
	require.Zero(t, list.GetTotal(), "another tenant's")
	page, err = certificates.ListCertificates(w.betaWriter, &signetv1.ListCertificatesRequest{})
	require.NoError(t, err)
	require.Zero(t, page.GetTotal())
}

func TestCA13_CertificateStatus(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := signetv1.NewCertificateServiceClient(w.conn)
	s := w.signer(t)
	made := w.device(t, "jane")
	for ref, want := range map[string]string{made.Ref: "AST_DEVICE " + s.ID, s.ID: "SIGNER "} {
		got, err := client.GetCertificate(w.reader, &signetv1.GetCertificateRequest{CertRef: ref})
		require.NoError(t, err)
		require.Equal(t, want, got.GetInfo().GetProfile()+" "+got.GetInfo().GetSigner())
		_, err = client.GetCertificate(w.betaWriter, &signetv1.GetCertificateRequest{CertRef: ref})
		requireStatus(t, err, codes.NotFound, "CERTIFICATE_NOT_FOUND")
	}
	for _, ref := range []string{ulid.Make().String(), "current", "x"} {
		_, err := client.GetCertificate(w.reader, &signetv1.GetCertificateRequest{CertRef: ref})
		requireStatus(t, err, codes.NotFound, "CERTIFICATE_NOT_FOUND")
	}
	serial := made.Serial.String()
	got, err := client.GetCertificate(w.reader, &signetv1.GetCertificateRequest{Serial: serial})
	require.NoError(t, err)
	require.Equal(t, made.Ref, got.GetInfo().GetCertRef())
	_, err = client.GetCertificate(w.betaWriter, &signetv1.GetCertificateRequest{Serial: serial})
	requireStatus(t, err, codes.NotFound, "CERTIFICATE_NOT_FOUND")
	_, err = client.GetCertificate(w.reader, &signetv1.GetCertificateRequest{Serial: serial, CertRef: made.Ref})
	requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "serial")
	_, err = client.GetCertificate(w.reader, &signetv1.GetCertificateRequest{Serial: strings.ToUpper(serial + "a")})
	requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "serial")
}

func TestCA08_DeleteSigner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := signetv1.NewSignerServiceClient(w.conn)
	_, err := client.DeleteSigner(w.writer, &signetv1.DeleteSignerRequest{Signer: "current"})
	requireStatus(t, err, codes.NotFound, "SIGNER_NOT_FOUND")
	s := w.signer(t)
	_, err = client.DeleteSigner(w.betaWriter, &signetv1.DeleteSignerRequest{Signer: s.ID})
	requireStatus(t, err, codes.NotFound, "SIGNER_NOT_FOUND")
	_, err = client.DeleteSigner(w.writer, &signetv1.DeleteSignerRequest{Signer: s.ID})
	require.NoError(t, err)
	_, err = client.GetSigner(w.reader, &signetv1.GetSignerRequest{Signer: s.ID})
	requireStatus(t, err, codes.NotFound, "SIGNER_NOT_FOUND")

	w.signer(t)
	w.device(t, "jane")
	_, err = client.DeleteSigner(w.writer, &signetv1.DeleteSignerRequest{Signer: "current"})
	requireStatus(t, err, codes.FailedPrecondition, "SIGNER_USED")
}

func TestCA10_RenewSigner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := signetv1.NewSignerServiceClient(w.conn)
	_, err := client.RenewSigner(w.writer, &signetv1.RenewSignerRequest{Signer: "current"})
	requireStatus(t, err, codes.NotFound, "SIGNER_NOT_FOUND")
	s := w.signer(t)
	for _, ignore := range []bool{false, true} {
		before, err := client.GetSigner(w.reader, &signetv1.GetSignerRequest{Signer: s.ID})
		require.NoError(t, err)
		after, err := client.RenewSigner(w.writer, &signetv1.RenewSignerRequest{Signer: "current", IgnoreNotIssued: ignore})
		require.NoError(t, err)
		require.Equal(t, s.ID, after.GetSigner().GetId())
		a, err := x509.ParseCertificate(before.GetSigner().GetCertificate())
		require.NoError(t, err)
		b, err := x509.ParseCertificate(after.GetSigner().GetCertificate())
		require.NoError(t, err)
		require.NotEqual(t, a.SerialNumber, b.SerialNumber, "another certificate")
		require.Equal(t, a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo, "of the same key")
	}
	_, err = client.RenewSigner(w.betaWriter, &signetv1.RenewSignerRequest{Signer: s.ID})
	requireStatus(t, err, codes.NotFound, "SIGNER_NOT_FOUND")

	// The last request failed, which a caller has to know.
	_, err = w.DB.Exec(t.Context(), `update ca_certificate set status = 'FAILED', failure = 'TEST', certificate = null, issued_at = null
where tenant_id = 'alpha' and subject_signer_id = $1 and sequence = (select max(sequence) from ca_certificate where subject_signer_id = $1)`, s.ID)
	require.NoError(t, err)
	_, err = client.RenewSigner(w.writer, &signetv1.RenewSignerRequest{Signer: s.ID})
	requireStatus(t, err, codes.FailedPrecondition, "SIGNER_NOT_ISSUED")
	_, err = client.RenewSigner(w.writer, &signetv1.RenewSignerRequest{Signer: s.ID, IgnoreNotIssued: true})
	require.NoError(t, err)
}

func TestCA11_RevokeSigner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	signers, certificates := signetv1.NewSignerServiceClient(w.conn), signetv1.NewCertificateServiceClient(w.conn)
	s := w.signer(t)
	for range 3 {
		w.device(t, "jane")
	}
	since := timestamppb.New(time.Now().Add(-time.Hour))
	for name, bad := range map[string]struct {
		req    *signetv1.RevokeSignerRequest
		reason string
		fields []string
	}{
		"no signer":      {&signetv1.RevokeSignerRequest{}, "REQUEST_INVALID", []string{"signer"}},
		"hold":           {&signetv1.RevokeSignerRequest{Signer: s.ID, Reason: 6}, "REQUEST_INVALID", []string{"reason"}},
		"reason 256":     {&signetv1.RevokeSignerRequest{Signer: s.ID, Reason: 256}, "REQUEST_INVALID", []string{"reason"}},
		"reason -1":      {&signetv1.RevokeSignerRequest{Signer: s.ID, Reason: -1}, "REQUEST_INVALID", []string{"reason"}},
		"no time":        {&signetv1.RevokeSignerRequest{Signer: s.ID, Since: &timestamppb.Timestamp{Nanos: -1}}, "REQUEST_INVALID", []string{"since"}},
		"lost tomorrow":  {&signetv1.RevokeSignerRequest{Signer: s.ID, Since: timestamppb.New(time.Now().Add(time.Hour))}, "CA_REQUEST", []string{"since"}},
		"both are wrong": {&signetv1.RevokeSignerRequest{Signer: s.ID, Reason: 8, Since: &timestamppb.Timestamp{Nanos: -1}}, "REQUEST_INVALID", []string{"reason", "since"}},
	} {
		_, err := signers.RevokeSigner(w.writer, bad.req)
		require.Error(t, err, name)
		requireStatus(t, err, codes.InvalidArgument, bad.reason, bad.fields...)
		_, err = signers.RevokeIssuedCertificates(w.writer, &signetv1.RevokeIssuedCertificatesRequest{Signer: bad.req.GetSigner(), Reason: bad.req.GetReason(), Since: bad.req.GetSince()})
		requireStatus(t, err, codes.InvalidArgument, bad.reason, bad.fields...)
	}
	_, err := signers.RevokeSigner(w.betaWriter, &signetv1.RevokeSignerRequest{Signer: s.ID})
	requireStatus(t, err, codes.NotFound, "SIGNER_NOT_FOUND")
	_, err = signers.RevokeIssuedCertificates(w.betaWriter, &signetv1.RevokeIssuedCertificatesRequest{Signer: s.ID})
	requireStatus(t, err, codes.NotFound, "SIGNER_NOT_FOUND")

	for _, want := range []int64{3, 0} { // a second call meets none
		done, err := signers.RevokeIssuedCertificates(w.writer, &signetv1.RevokeIssuedCertificatesRequest{
			Signer: s.ID, Reason: signetv1.RevocationReason_REVOCATION_REASON_CA_COMPROMISE,
		})
		require.NoError(t, err)
		require.Equal(t, want, done.GetRevoked())
		require.True(t, done.GetComplete())
	}

	_, err = signers.RevokeSigner(w.writer, &signetv1.RevokeSignerRequest{
		Signer: "current", Reason: signetv1.RevocationReason_REVOCATION_REASON_KEY_COMPROMISE, Since: since,
	})
	require.NoError(t, err)
	got, err := signers.GetSigner(w.reader, &signetv1.GetSignerRequest{Signer: s.ID})
	require.NoError(t, err)
	require.Equal(t, signetv1.SignerState_SIGNER_STATE_REVOKED, got.GetSigner().GetState())
	require.Empty(t, got.GetSigner().GetCertificate(), "erased from use")
	_, err = signers.GetSignerChain(w.reader, &signetv1.GetSignerChainRequest{Signer: s.ID})
	requireStatus(t, err, codes.FailedPrecondition, "SIGNER_NOT_ISSUED")
	_, err = signers.GetSignerPaths(w.reader, &signetv1.GetSignerPathsRequest{Signer: s.ID})
	requireStatus(t, err, codes.FailedPrecondition, "SIGNER_NOT_ISSUED")
	_, err = signers.RevokeSigner(w.writer, &signetv1.RevokeSignerRequest{Signer: s.ID})
	requireStatus(t, err, codes.FailedPrecondition, "SIGNER_REVOKED")
	_, err = signers.DeleteSigner(w.writer, &signetv1.DeleteSignerRequest{Signer: s.ID})
	requireStatus(t, err, codes.FailedPrecondition, "SIGNER_REVOKED")
	_, err = signers.RenewSigner(w.writer, &signetv1.RenewSignerRequest{Signer: s.ID})
	requireStatus(t, err, codes.FailedPrecondition, "SIGNER_REVOKED")
	var reason, invalid int
	require.NoError(t, w.DB.QueryRow(t.Context(), `select reason, count(*) from ca_revocation where tenant_id = 'alpha' and invalid_since = $1 group by 1`, since.AsTime()).Scan(&reason, &invalid))
	require.Equal(t, []int{int(revocation.KeyCompromise), 1}, []int{reason, invalid})

	_, err = signers.RevokeIssuedCertificates(w.writer, &signetv1.RevokeIssuedCertificatesRequest{Signer: s.ID})
	requireStatus(t, err, codes.FailedPrecondition, "SIGNER_REVOKED")
	page, err := certificates.ListCertificates(w.reader, &signetv1.ListCertificatesRequest{Filter: "status = REVOKED"})
	require.NoError(t, err)
	require.EqualValues(t, 4, page.GetTotal())
}

func TestCAX02_RevokeCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := signetv1.NewCertificateServiceClient(w.conn)
	s := w.signer(t)
	byRef, bySerial := w.device(t, "jane"), w.device(t, "joe")
	refused := func(ctx context.Context, req *signetv1.RevokeCertificateRequest, code codes.Code, reason string, fields ...string) {
		t.Helper()
		_, err := client.RevokeCertificate(ctx, req)
		requireStatus(t, err, code, reason, fields...)
	}
	refused(w.writer, &signetv1.RevokeCertificateRequest{}, codes.InvalidArgument, "REQUEST_INVALID", "cert_ref")
	refused(w.writer, &signetv1.RevokeCertificateRequest{CertRef: byRef.Ref, Serial: byRef.Serial.String()}, codes.InvalidArgument, "REQUEST_INVALID", "serial")
	for _, serial := range []string{"x", "00", "00000000000000000000000000000000", "ABCDEF00000000000000000000000000"} {
		refused(w.writer, &signetv1.RevokeCertificateRequest{Serial: serial}, codes.InvalidArgument, "REQUEST_INVALID", "serial")
	}
	for _, reason := range []signetv1.RevocationReason{2, 6, 8, 10, 11, 257} {
		refused(w.writer, &signetv1.RevokeCertificateRequest{CertRef: byRef.Ref, Reason: reason}, codes.InvalidArgument, "REQUEST_INVALID", "reason")
	}
	refused(w.writer, &signetv1.RevokeCertificateRequest{CertRef: ulid.Make().String()}, codes.NotFound, "CERTIFICATE_NOT_FOUND")
	refused(w.betaWriter, &signetv1.RevokeCertificateRequest{CertRef: byRef.Ref}, codes.NotFound, "CERTIFICATE_NOT_FOUND")
	refused(w.betaWriter, &signetv1.RevokeCertificateRequest{Serial: byRef.Serial.String()}, codes.NotFound, "CERTIFICATE_NOT_FOUND")
	refused(w.writer, &signetv1.RevokeCertificateRequest{CertRef: s.ID}, codes.FailedPrecondition, "CERTIFICATE_OF_SIGNER")

	_, err := client.RevokeCertificate(w.writer, &signetv1.RevokeCertificateRequest{CertRef: byRef.Ref, Reason: signetv1.RevocationReason_REVOCATION_REASON_SUPERSEDED})
	require.NoError(t, err)
	_, err = client.RevokeCertificate(w.writer, &signetv1.RevokeCertificateRequest{Serial: bySerial.Serial.String()})
	require.NoError(t, err)
	for _, ref := range []string{byRef.Ref, bySerial.Ref} {
		got, err := client.GetCertificate(w.reader, &signetv1.GetCertificateRequest{CertRef: ref})
		require.NoError(t, err)
		require.Equal(t, signetv1.CertificateStatus_CERTIFICATE_STATUS_REVOKED, got.GetInfo().GetStatus())
		refused(w.writer, &signetv1.RevokeCertificateRequest{CertRef: ref}, codes.FailedPrecondition, "CERTIFICATE_STATE")
	}
}

// After a change of the issuer the operator has every tenant's signers renewed by
// one call; until the old one is gone there are two paths.
func TestRenewAllSigners(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signer(t)
	w.signer(t)
	_, err := w.Authority.CreateSigner(t.Context(), pgtest.Beta, ca.CreateSigner{})
	require.NoError(t, err)
	changed := w.OtherAuthority(t, func(c *ca.Config) { nextIssuer(t, c) })
	config := api.Config{Authority: changed, Verifier: w.Registrations, Realms: w.Realms, Basic: w.Basic}
	nobodys := signetv1.NewSignerServiceClient(serve(t, config))
	_, err = nobodys.RenewAllSigners(w.writer, &signetv1.RenewAllSignersRequest{})
	requireStatus(t, err, codes.PermissionDenied, "FORBIDDEN")
	config.Operator = pgtest.Alpha
	client := signetv1.NewSignerServiceClient(serve(t, config))
	_, err = client.RenewAllSigners(w.betaWriter, &signetv1.RenewAllSignersRequest{})
	requireStatus(t, err, codes.PermissionDenied, "FORBIDDEN")

	paths, err := client.GetSignerPaths(w.client, &signetv1.GetSignerPathsRequest{Signer: "current"})
	require.NoError(t, err)
	require.Len(t, paths.GetPaths(), 1)
	for _, want := range []int64{3, 0} {
		done, err := client.RenewAllSigners(w.writer, &signetv1.RenewAllSignersRequest{})
		require.NoError(t, err)
		require.Equal(t, []int64{want, 0, 0}, []int64{done.GetRenewed(), done.GetQueued(), done.GetFailed()})
		require.True(t, done.GetComplete())
	}
	paths, err = client.GetSignerPaths(w.client, &signetv1.GetSignerPathsRequest{Signer: "current"})
	require.NoError(t, err)
	require.Len(t, paths.GetPaths(), 2, "by the old issuer and by the new one")
	for _, p := range paths.GetPaths() {
		require.NoError(t, issuance.VerifyChain(p.GetChain(), time.Now()))
	}
	_, err = client.GetSignerPaths(w.betaWriter, &signetv1.GetSignerPathsRequest{Signer: w.signer(t).ID})
	requireStatus(t, err, codes.NotFound, "SIGNER_NOT_FOUND")
}

// nextIssuer gives the installation another issuer, under another root.
func nextIssuer(t *testing.T, c *ca.Config) {
	ref := hsm.Ref{Tenant: tenant.System.String(), Role: hsm.RoleIssuer, Name: "issuer", Generation: 1}
	_, err := c.Token.Generate(t.Context(), ref, hsm.P256, [16]byte{3})
	require.NoError(t, err)
	key, err := c.Token.Signer(t.Context(), ref)
	require.NoError(t, err)
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	made := func(name string, path int, public crypto.PublicKey, parent *x509.Certificate) *x509.Certificate {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(path) + 1<<50), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(20, 0, 0),
			IsCA: true, BasicConstraintsValid: true, MaxPathLen: path, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		if parent == nil {
			parent = template
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, rootKey)
		require.NoError(t, err)
		out, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		return out
	}
	root := made("Next Root", 2, rootKey.Public(), nil)
	issuer := made("Next Issuer", 1, key.Public(), root)
	c.OtherIssuers = []ca.OtherIssuer{{Chain: c.IssuerChain, Key: c.IssuerKey}}
	c.IssuerChain, c.IssuerKey = [][]byte{issuer.Raw, root.Raw}, ref
}

package grpc_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	api "github.com/signet-hsm/signet/api/grpc"
	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/tenant"
)

func TestCAX01_IssueByProfile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.signer(t)
	client := signetv1.NewCertificateServiceClient(w.conn)
	issue := func(o *signetv1.CertificateOrder) (*x509.Certificate, *signetv1.IssuedCertificate, error) {
		o.Csr, o.Client = csr(t), clientID
		resp, err := client.IssueCertificate(w.writer, &signetv1.IssueCertificateRequest{Order: o})
		if err != nil {
			return nil, nil, err
		}
		leaf, err := x509.ParseCertificate(resp.GetIssued().GetCertificate())
		require.NoError(t, err)
		return leaf, resp.GetIssued(), nil
	}
	leaf, issued, err := issue(&signetv1.CertificateOrder{User: "jane"})
	require.NoError(t, err)
	require.Equal(t, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, leaf.ExtKeyUsage)
	require.Equal(t, s.ID, issued.GetSigner())
	require.True(t, leaf.NotBefore.Equal(issued.GetNotBefore().AsTime()))
	require.True(t, leaf.NotAfter.Equal(issued.GetNotAfter().AsTime()))
	leaf, _, err = issue(&signetv1.CertificateOrder{User: "jane", Profile: "SIGNATURE"})
	require.NoError(t, err)
	require.NotZero(t, leaf.KeyUsage&x509.KeyUsageContentCommitment)
	leaf, _, err = issue(&signetv1.CertificateOrder{Profile: "GATEWAY", DnsNames: []string{"gw.example.com", "gw2.example.com"}})
	require.NoError(t, err, "a gateway is nobody's")
	require.Equal(t, []string{"gw.example.com", "gw2.example.com"}, leaf.DNSNames)

	for name, c := range map[string]struct {
		order  *signetv1.CertificateOrder
		reason string
		fields []string
	}{
		"unknown profile":        {&signetv1.CertificateOrder{User: "jane", Profile: "X"}, "CA_REQUEST", []string{"order.profile"}},
		"profile of a CA":        {&signetv1.CertificateOrder{User: "jane", Profile: "SIGNER"}, "CA_REQUEST", []string{"order.profile"}},
		"device with a host":     {&signetv1.CertificateOrder{User: "jane", DnsNames: []string{"a.example.com"}}, "CERT_ALT_NAME", nil},
		"gateway without":        {&signetv1.CertificateOrder{Profile: "GATEWAY"}, "CERT_ALT_NAME", nil},
		"wildcard":               {&signetv1.CertificateOrder{Profile: "GATEWAY", DnsNames: []string{"*.example.com"}}, "CERT_ALT_NAME", nil},
		"address not of profile": {&signetv1.CertificateOrder{Profile: "GATEWAY", IpAddresses: []string{"192.0.2.1"}}, "CERT_ALT_NAME", nil},
		"no addresses": {
			&signetv1.CertificateOrder{Profile: "GATEWAY", IpAddresses: []string{"192.0.2.1", "x", ""}},
			"REQUEST_INVALID",
			[]string{"order.ip_addresses[1]", "order.ip_addresses[2]"},
		},
	} {
		_, _, err := issue(c.order)
		require.Error(t, err, name)
		requireStatus(t, err, codes.InvalidArgument, c.reason, c.fields...)
	}
}

// orderError is the code, the reason and the fields of a result's error.
func orderError(r *signetv1.OrderResult) (out []string) {
	e := r.GetError()
	out = append(out, codes.Code(e.GetCode()).String(), e.GetReason())
	for _, v := range e.GetViolations() {
		out = append(out, v.GetField())
	}
	return out
}

func TestCAX01_EachOrderItsOutcome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := signetv1.NewCertificateServiceClient(w.conn)
	good := func() *signetv1.CertificateOrder {
		return &signetv1.CertificateOrder{Csr: csr(t), User: "jane", Client: clientID}
	}
	resp, err := client.IssueCertificates(w.writer, &signetv1.IssueCertificatesRequest{Orders: []*signetv1.CertificateOrder{good()}})
	require.NoError(t, err)
	require.Equal(t, []string{"NotFound", "SIGNER_NOT_FOUND"}, orderError(resp.GetResults()[0]))
	w.signer(t)

	orders := []*signetv1.CertificateOrder{
		good(),
		{Csr: csr(t), Client: clientID},
		{Profile: "GATEWAY", IpAddresses: []string{"x"}},
		{Csr: []byte("x"), User: "jane", Client: clientID},
		good(),
	}
	resp, err = client.IssueCertificates(w.writer, &signetv1.IssueCertificatesRequest{Orders: orders})
	require.NoError(t, err)
	results := resp.GetResults()
	require.Len(t, results, 5)
	require.Equal(t, []string{"InvalidArgument", "CA_REQUEST", "orders[1].user"}, orderError(results[1]))
	require.Equal(t, []string{"InvalidArgument", "REQUEST_INVALID", "orders[2].ip_addresses[0]"}, orderError(results[2]))
	require.Equal(t, []string{"InvalidArgument", "CSR_INVALID"}, orderError(results[3]))
	for _, i := range []int{0, 4} {
		leaf, err := x509.ParseCertificate(results[i].GetIssued().GetCertificate())
		require.NoError(t, err)
		request, err := x509.ParseCertificateRequest(orders[i].GetCsr())
		require.NoError(t, err)
		require.Equal(t, request.RawSubjectPublicKeyInfo, leaf.RawSubjectPublicKeyInfo, "in the order of the orders")
	}
	_, err = client.IssueCertificates(w.writer, &signetv1.IssueCertificatesRequest{})
	requireStatus(t, err, codes.InvalidArgument, "CA_REQUEST", "orders")
	many := make([]*signetv1.CertificateOrder, 257)
	for i := range many {
		many[i] = orders[0]
	}
	_, err = client.IssueCertificates(w.writer, &signetv1.IssueCertificatesRequest{Orders: many})
	requireStatus(t, err, codes.InvalidArgument, "CA_REQUEST", "orders")

	w.DB.Close()
	resp, err = client.IssueCertificates(w.writer, &signetv1.IssueCertificatesRequest{Orders: []*signetv1.CertificateOrder{good(), orders[3]}})
	require.NoError(t, err)
	require.Equal(t, []string{"Unavailable", "UNAVAILABLE"}, orderError(resp.GetResults()[0]))
	require.Equal(t, []string{"InvalidArgument", "CSR_INVALID"}, orderError(resp.GetResults()[1]))
}

func TestCAX01_IssueStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signer(t)
	client := signetv1.NewCertificateServiceClient(w.conn)
	stream, err := client.IssueStream(w.writer)
	require.NoError(t, err)
	const n = 50
	go func() {
		for i := range uint64(n) {
			o := &signetv1.CertificateOrder{Csr: csr(t), User: "jane", Client: clientID}
			switch i {
			case 7:
				o.User = ""
			case 8:
				o.User = "a\x00b"
			case 9:
				o = nil
			}
			if stream.Send(&signetv1.IssueStreamRequest{Tag: i, Order: o}) != nil {
				return
			}
		}
		_ = stream.CloseSend() // what goes wrong is seen by the reader
	}()
	results := map[uint64]*signetv1.OrderResult{}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		require.NotContains(t, results, resp.GetTag())
		results[resp.GetTag()] = resp.GetResult()
	}
	require.Len(t, results, n)
	require.Equal(t, []string{"InvalidArgument", "CA_REQUEST", "order.user"}, orderError(results[7]))
	require.Equal(t, []string{"InvalidArgument", "REQUEST_INVALID", "order.user"}, orderError(results[8]))
	require.Equal(t, []string{"InvalidArgument", "REQUEST_INVALID", "order"}, orderError(results[9]))
	list, err := client.ListCertificates(w.reader, &signetv1.ListCertificatesRequest{Filter: "profile = AST_DEVICE"})
	require.NoError(t, err)
	require.EqualValues(t, n-3, list.GetTotal())

	foreign, err := client.IssueStream(w.betaWriter) // without a signer, and never alpha's
	require.NoError(t, err)
	require.NoError(t, foreign.Send(&signetv1.IssueStreamRequest{Order: &signetv1.CertificateOrder{Csr: csr(t), User: "jane", Client: clientID}}))
	resp, err := foreign.Recv()
	require.NoError(t, err)
	require.Equal(t, []string{"NotFound", "SIGNER_NOT_FOUND"}, orderError(resp.GetResult()))
	require.NoError(t, foreign.CloseSend())
	_, err = foreign.Recv()
	require.ErrorIs(t, err, io.EOF)
}

// issuing is an authority that takes its time, or panics.
type issuing struct {
	api.Authority
	issue func(context.Context) error
}

func (a issuing) Issue(ctx context.Context, _ tenant.ID, _ ca.IssueRequest) (ca.Certificate, error) {
	return ca.Certificate{}, a.issue(ctx)
}

// streams runs a server with this authority whose streams end early, and how to
// end it.
func streams(t *testing.T, issue func(context.Context) error, life time.Duration) (signetv1.CertificateServiceClient, func()) {
	t.Helper()
	s, err := api.New(api.Config{Authority: issuing{issue: issue}, Verifier: stub{}, Realms: writer{}, Basic: nobody{}})
	require.NoError(t, err)
	s.EndStreamsAfter(life)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	end := sync.OnceFunc(func() { stop(); require.NoError(t, <-done) })
	t.Cleanup(func() { require.NoError(t, conn.Close()); end() })
	return signetv1.NewCertificateServiceClient(conn), end
}

func TestAStreamIsBounded(t *testing.T) {
	t.Parallel()
	started, release := make(chan struct{}, 100), make(chan struct{})
	client, _ := streams(t, func(context.Context) error {
		started <- struct{}{}
		<-release
		panic("hunter2")
	}, 700*time.Millisecond)
	stream, err := client.IssueStream(bearer(t, "x"))
	require.NoError(t, err)
	for i := range uint64(20) {
		require.NoError(t, stream.Send(&signetv1.IssueStreamRequest{Tag: i, Order: &signetv1.CertificateOrder{}}))
	}
	for range 8 {
		<-started
	}
	time.Sleep(800 * time.Millisecond)
	require.Empty(t, started, "no more than eight at work")
	close(release) // after the stream's time: what was taken is answered
	for range 8 {
		resp, err := stream.Recv()
		require.NoError(t, err)
		require.Equal(t, []string{"Internal", ""}, orderError(resp.GetResult()), "a panic ends one order")
		require.NotContains(t, resp.GetResult().GetError().GetMessage(), "hunter2")
	}
	_, err = stream.Recv()
	requireStatus(t, err, codes.Aborted, "STREAM_OVER")
}

// A stream that nobody uses does not hold up the service's end.
func TestAStreamEndsWithTheService(t *testing.T) {
	t.Parallel()
	client, end := streams(t, nil, time.Hour)
	idle, err := client.IssueStream(bearer(t, "x"))
	require.NoError(t, err)
	require.NoError(t, idle.Send(&signetv1.IssueStreamRequest{}))
	_, err = idle.Recv()
	require.NoError(t, err)
	began := time.Now()
	end()
	_, err = idle.Recv()
	requireStatus(t, err, codes.Aborted, "STREAM_OVER")
	require.Less(t, time.Since(began), 5*time.Second)
}

// What takes longer than the call has is answered as far as it came.
func TestWorkInPortions(t *testing.T) {
	t.Parallel()
	for done, want := range map[int]codes.Code{3: codes.OK, 0: codes.Unavailable} {
		conn := serve(t, api.Config{Authority: endless{done: done}, Verifier: stub{}, Realms: writer{}, Basic: nobody{}, Operator: pgtest.Alpha})
		ctx, cancel := context.WithTimeout(bearer(t, "x"), 2*time.Second)
		defer cancel()
		client := signetv1.NewSignerServiceClient(conn)
		revoked, err := client.RevokeIssuedCertificates(ctx, &signetv1.RevokeIssuedCertificatesRequest{Signer: "current"})
		if want != codes.OK {
			requireStatus(t, err, want, "UNAVAILABLE")
			continue
		}
		require.NoError(t, err)
		require.EqualValues(t, done, revoked.GetRevoked())
		require.False(t, revoked.GetComplete())
	}
}

type endless struct {
	api.Authority
	done int
}

func (a endless) RevokeIssued(ctx context.Context, _ tenant.ID, _ ca.RevokeIssued) (int, error) {
	<-ctx.Done()
	return a.done, ctx.Err()
}

// An HSM that is out is an outage; nothing is answered that it has not signed.
func TestHSMOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signer(t)
	made := w.device(t, "jane")
	var token *hsm.Token
	w.OtherAuthority(t, func(c *ca.Config) { token = c.Token })
	require.NoError(t, token.Close())
	client := signetv1.NewCertificateServiceClient(w.conn)
	_, err := client.IssueCertificate(w.writer, &signetv1.IssueCertificateRequest{Order: &signetv1.CertificateOrder{Csr: csr(t), User: "jane", Client: clientID}})
	requireStatus(t, err, codes.Unavailable, "UNAVAILABLE")
	_, err = signetv1.NewSignerServiceClient(w.conn).CreateSigner(w.writer, &signetv1.CreateSignerRequest{})
	requireStatus(t, err, codes.Unavailable, "UNAVAILABLE")
	got, err := client.GetCertificate(w.reader, &signetv1.GetCertificateRequest{CertRef: made.Ref})
	require.NoError(t, err, "the record needs no HSM")
	require.Equal(t, signetv1.CertificateStatus_CERTIFICATE_STATUS_ISSUED, got.GetInfo().GetStatus())
}

func TestCA14_CreateSdkConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := signetv1.NewSdkConfigServiceClient(w.conn)
	req := &signetv1.CreateSdkConfigRequest{
		TlsBundle: [][]byte{someHolder.certificate}, AstUrl: "https://asts.example.com",
		Services: []*signetv1.SdkConfigEndpoint{{Name: "push", Url: "https://push.example.com"}},
	}
	_, err := client.CreateSdkConfig(w.writer, req)
	requireStatus(t, err, codes.FailedPrecondition, "SDK_CONFIG_NO_SIGNER")
	s := w.signer(t)
	resp, err := client.CreateSdkConfig(w.writer, req)
	require.NoError(t, err)
	parsed, err := jose.ParseSignedCompact(resp.GetSdkConfig(), []jose.SignatureAlgorithm{jose.ES256})
	require.NoError(t, err)
	require.Equal(t, s.ID, parsed.Signatures[0].Protected.KeyID)
	signer, err := x509.ParseCertificate(s.Certificate)
	require.NoError(t, err)
	payload, err := parsed.Verify(signer.PublicKey)
	require.NoError(t, err)
	require.Contains(t, string(payload), `"tenant":"alpha"`)
	require.Contains(t, string(payload), `"astUrl":"https://asts.example.com"`)

	_, err = client.CreateSdkConfig(w.writer, &signetv1.CreateSdkConfigRequest{})
	requireStatus(t, err, codes.InvalidArgument, "SDK_CONFIG_REQUEST", "tls_bundle")
	_, err = client.CreateSdkConfig(w.writer, &signetv1.CreateSdkConfigRequest{TlsBundle: [][]byte{someHolder.certificate, nil}})
	requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "tls_bundle[1]")
	_, err = client.CreateSdkConfig(w.writer, &signetv1.CreateSdkConfigRequest{
		TlsBundle: [][]byte{someHolder.certificate, []byte("x"), someHolder.certificate, make([]byte, 20<<10)}, AstUrl: "ftp://x",
		Services: []*signetv1.SdkConfigEndpoint{{Name: strings.Repeat("x", 256), Url: ""}},
	})
	requireStatus(t, err, codes.InvalidArgument, "SDK_CONFIG_REQUEST",
		"tls_bundle[1]", "tls_bundle[2]", "tls_bundle[3]", "ast_url", "services[0].name", "services[0].url")
	_, err = client.CreateSdkConfig(w.betaWriter, req)
	requireStatus(t, err, codes.FailedPrecondition, "SDK_CONFIG_NO_SIGNER")
}

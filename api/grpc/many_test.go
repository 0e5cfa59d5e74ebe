package grpc_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signet-hsm/signet/access"
	api "github.com/signet-hsm/signet/api/grpc"
	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// checkError is the code, the reason and the fields of an item's error.
func checkError(e *signetv1.CheckError) (out []string) {
	out = append(out, codes.Code(e.GetCode()).String(), e.GetReason())
	for _, v := range e.GetViolations() {
		out = append(out, v.GetField())
	}
	return out
}

func signed(tb testing.TB, d *powerauth.Device) *signetv1.SignatureCheck {
	tb.Helper()
	header, err := d.Sign("POST", "/pay", []byte("{}"), signature.PossessionKnowledge)
	require.NoError(tb, err)
	return &signetv1.SignatureCheck{Method: "POST", UriId: "/pay", AuthHeader: header, Body: []byte("{}")}
}

func TestPAAUTH01_EachSignatureItsOutcome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := signetv1.NewSignatureServiceClient(w.conn)
	jane, john := w.phoneOf(t, "jane"), w.phoneOf(t, "john")
	checks := []*signetv1.SignatureCheck{
		signed(t, jane),
		{Method: "POST", UriId: "/pay", AuthHeader: "junk"},
		signed(t, john), signed(t, jane),
		{Method: "PO\x00ST", UriId: "/pay", AuthHeader: "junk"},
		signed(t, jane), nil,
	}
	checks[6] = checks[5] // a replay
	resp, err := client.VerifySignatures(w.shop, &signetv1.VerifySignaturesRequest{Checks: checks})
	require.NoError(t, err)
	results := resp.GetResults()
	require.Len(t, results, len(checks))
	for i, who := range map[int]*powerauth.Device{0: jane, 2: john, 3: jane, 5: jane} { // jane's in her counter's order
		require.True(t, results[i].GetVerdict().GetValid(), i)
		require.Equal(t, who.ActivationID(), results[i].GetVerdict().GetRegistrationId())
	}
	require.NotNil(t, results[6].GetVerdict())
	require.False(t, results[6].GetVerdict().GetValid())
	require.Equal(t, []string{"InvalidArgument", "SIGNATURE_HEADER", "checks[1].auth_header"}, checkError(results[1].GetError()))
	require.Equal(t, []string{"InvalidArgument", "REQUEST_INVALID", "checks[4].method"}, checkError(results[4].GetError()))

	_, err = client.VerifySignatures(w.shop, &signetv1.VerifySignaturesRequest{})
	requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "checks")
	_, err = client.VerifySignatures(w.shop, &signetv1.VerifySignaturesRequest{Checks: make([]*signetv1.SignatureCheck, 257)})
	requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "checks")
	_, err = client.VerifySignatures(w.admin, &signetv1.VerifySignaturesRequest{Checks: checks[:1]})
	requireStatus(t, err, codes.PermissionDenied, "FORBIDDEN")

	last := []*signetv1.SignatureCheck{signed(t, jane), checks[1]}
	w.DB.Close()
	resp, err = client.VerifySignatures(w.shop, &signetv1.VerifySignaturesRequest{Checks: last})
	require.NoError(t, err)
	require.Equal(t, []string{"Unavailable", "UNAVAILABLE"}, checkError(resp.GetResults()[0].GetError()))
	require.Equal(t, []string{"InvalidArgument", "SIGNATURE_HEADER", "checks[1].auth_header"}, checkError(resp.GetResults()[1].GetError()))
}

func TestPAAUTH01_VerifySignatureStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	phones := []*powerauth.Device{w.phoneOf(t, "jane"), w.phoneOf(t, "john"), w.phoneOf(t, "jack")}
	stream, err := signetv1.NewSignatureServiceClient(w.conn).VerifySignatureStream(w.shop)
	require.NoError(t, err)
	const n = 90
	var checks []*signetv1.SignatureCheck
	for i := range n {
		c := signed(t, phones[i%len(phones)])
		if i == 31 {
			c.AuthHeader += "\x00" // its counter is within the window: the next ones are good
		}
		checks = append(checks, c)
	}
	go func() {
		for i, c := range checks {
			if stream.Send(&signetv1.VerifySignatureStreamRequest{Tag: uint64(i), Check: c}) != nil {
				return
			}
		}
		_ = stream.Send(&signetv1.VerifySignatureStreamRequest{Tag: n})
		_ = stream.CloseSend() // what goes wrong is seen by the reader
	}()
	results := map[uint64]*signetv1.SignatureResult{}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		require.NotContains(t, results, resp.GetTag())
		results[resp.GetTag()] = resp.GetResult()
	}
	require.Len(t, results, n+1)
	for i := range uint64(n) {
		if i != 31 {
			require.True(t, results[i].GetVerdict().GetValid(), "%d: of one registration in their order", i)
		}
	}
	require.Equal(t, []string{"InvalidArgument", "REQUEST_INVALID", "check.auth_header"}, checkError(results[31].GetError()))
	require.Equal(t, []string{"InvalidArgument", "REQUEST_INVALID", "check"}, checkError(results[n].GetError()))
}

func TestPAAUTH02_ManyTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.phone(t)
	held, err := d.CreateToken(t.Context(), signature.Possession)
	require.NoError(t, err)
	check := func() *signetv1.TokenCheck {
		header, err := d.TokenHeader(held)
		require.NoError(t, err)
		return &signetv1.TokenCheck{AuthHeader: header}
	}
	client := signetv1.NewTokenServiceClient(w.conn)
	twice := check()
	checks := []*signetv1.TokenCheck{check(), twice, twice, {AuthHeader: "x"}, check()}
	resp, err := client.VerifyTokens(w.shop, &signetv1.VerifyTokensRequest{Checks: checks})
	require.NoError(t, err)
	valid := func(i int) bool { return resp.GetResults()[i].GetVerdict().GetValid() }
	require.True(t, valid(0) && valid(4))
	require.True(t, valid(1) != valid(2), "a header is good once")
	require.Equal(t, []string{"InvalidArgument", "TOKEN_HEADER", "checks[3].auth_header"}, checkError(resp.GetResults()[3].GetError()))

	stream, err := client.VerifyTokenStream(w.shop)
	require.NoError(t, err)
	for i := range uint64(20) {
		require.NoError(t, stream.Send(&signetv1.VerifyTokenStreamRequest{Tag: i, Check: check()}))
	}
	require.NoError(t, stream.CloseSend())
	for range 20 {
		answer, err := stream.Recv()
		require.NoError(t, err)
		require.True(t, answer.GetResult().GetVerdict().GetValid())
	}
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
}

func TestPAOP05_ManyOfflineOtps(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.phone(t)
	_, err := w.Operations.CreateTemplate(t.Context(), pgtest.Alpha, operation.Template{
		Name: "pay", Type: "authorize_payment", Data: "A1*A${amount}CZK", Types: []signature.Factor{signature.PossessionKnowledge},
	}, "test")
	require.NoError(t, err)
	client := signetv1.NewOperationServiceClient(w.conn)
	check := func() *signetv1.OtpCheck {
		made, err := client.CreateOperation(w.shop, &signetv1.CreateOperationRequest{
			Order: &signetv1.OperationOrder{UserId: "jane", Template: "pay", Parameters: map[string]string{"amount": "100"}},
		})
		require.NoError(t, err)
		id := made.GetOperation().GetOperationId()
		code, err := client.GetOfflineQr(w.shop, &signetv1.GetOfflineQrRequest{OperationId: id, RegistrationId: d.ActivationID()})
		require.NoError(t, err)
		nonce, err := base64.StdEncoding.DecodeString(code.GetNonce())
		require.NoError(t, err)
		otp, err := d.SignOffline(powerauth.Offline{OperationID: id, Data: "A1*A100CZK", Nonce: [16]byte(nonce)}, signature.PossessionKnowledge)
		require.NoError(t, err)
		return &signetv1.OtpCheck{OperationId: id, Otp: otp, Nonce: code.GetNonce(), RegistrationId: d.ActivationID()}
	}
	checks := []*signetv1.OtpCheck{check(), {Otp: "x"}, check()}
	resp, err := client.VerifyOfflineOtps(w.shop, &signetv1.VerifyOfflineOtpsRequest{Checks: checks})
	require.NoError(t, err)
	for _, i := range []int{0, 2} {
		require.True(t, resp.GetResults()[i].GetVerdict().GetValid(), i)
		require.Equal(t, signetv1.OperationState_OPERATION_STATE_APPROVED, resp.GetResults()[i].GetVerdict().GetOperationState())
	}
	require.Equal(t, codes.InvalidArgument.String(), checkError(resp.GetResults()[1].GetError())[0])

	stream, err := client.VerifyOfflineOtpStream(w.shop)
	require.NoError(t, err)
	require.NoError(t, stream.Send(&signetv1.VerifyOfflineOtpStreamRequest{Tag: 7, Check: check()}))
	answer, err := stream.Recv()
	require.NoError(t, err)
	require.EqualValues(t, 7, answer.GetTag())
	require.True(t, answer.GetResult().GetVerdict().GetValid())
	require.NoError(t, stream.CloseSend())
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
}

// Credentials that are no longer good end a stream, also one that says nothing.
func TestARefusedCredentialEndsItsStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conn := serve(t, api.Config{Authority: w.Authority, Verifier: w.Registrations, Realms: w.Realms, Basic: w.Basic},
		func(s *api.Server) { s.RecheckEvery(50 * time.Millisecond) })
	d := w.phone(t)
	stream, err := signetv1.NewSignatureServiceClient(conn).VerifySignatureStream(w.shop)
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, stream.Send(&signetv1.VerifySignatureStreamRequest{Check: signed(t, d)}))
		resp, err := stream.Recv()
		require.NoError(t, err)
		require.True(t, resp.GetResult().GetVerdict().GetValid())
		time.Sleep(120 * time.Millisecond) // good credentials are found good again
	}
	require.NoError(t, w.Basic.Disable(t.Context(), pgtest.Alpha, "shop"))
	_, err = stream.Recv()
	requireStatus(t, err, codes.Unauthenticated, "UNAUTHENTICATED")
}

// slow is a verifier that tells when it begins and waits to be let go.
type slow struct {
	began   chan time.Duration // that is left of its time
	release chan struct{}
}

func (s slow) Verify(ctx context.Context, _ tenant.ID, r registration.VerifyRequest) (registration.Verdict, error) {
	at, _ := ctx.Deadline()
	s.began <- time.Until(at)
	<-s.release
	return registration.Verdict{Valid: true, ID: r.Header.ActivationID}, nil
}

// tier is every username, as one of alpha's integrations.
type tier struct{}

func (tier) Authenticate(_ context.Context, user, _ string) (access.Principal, error) {
	return access.Principal{Tenant: pgtest.Alpha, Name: user, Privileges: access.Any(access.PAIntegration), Apps: []string{"APP"}}, nil
}

func TestCallsOfACredentialAreBounded(t *testing.T) {
	t.Parallel()
	limiter, err := access.NewLimiter(access.LimiterConfig{PerCredential: 1})
	require.NoError(t, err)
	domain := slow{make(chan time.Duration, 10), make(chan struct{}, 10)}
	conn := serve(t, api.Config{
		Authority: stub{}, Verifier: domain, Realms: anyone{}, Basic: tier{}, Limiter: limiter, MaxDeadline: 3 * time.Second,
	})
	client := signetv1.NewSignatureServiceClient(conn)
	check := (&world{shop: basic(t, "shop", "x")}).goodCalls()[signetv1.SignatureService_VerifySignature_FullMethodName].req.(*signetv1.VerifySignatureRequest)
	done := make(chan error, 1)
	shop, other := basic(t, "shop", "x"), basic(t, "other", "x")
	go func() {
		far, cancel := context.WithTimeout(shop, time.Hour)
		defer cancel()
		_, err := client.VerifySignature(far, check)
		done <- err
	}()
	require.InDelta(t, 3, (<-domain.began).Seconds(), 0.9, "a far deadline is brought nearer")

	_, err = client.VerifySignature(shop, check)
	requireStatus(t, err, codes.ResourceExhausted, "TOO_MANY_CALLS")
	var retry bool
	for _, d := range status.Convert(err).Details() {
		_, is := d.(*errdetails.RetryInfo)
		retry = retry || is
	}
	require.True(t, retry)

	domain.release <- struct{}{}
	go func() { _, err := client.VerifySignature(other, check); done <- err }() // has a bound of its own
	<-domain.began
	require.NoError(t, <-done)

	// An item of a stream waits for its turn instead of being refused.
	domain.release <- struct{}{}
	require.NoError(t, <-done)
	stream, err := client.VerifySignatureStream(shop)
	require.NoError(t, err)
	for i := range uint64(2) {
		c := check.GetCheck()
		require.NoError(t, stream.Send(&signetv1.VerifySignatureStreamRequest{Tag: i, Check: c}))
	}
	<-domain.began
	time.Sleep(50 * time.Millisecond)
	require.Empty(t, domain.began)
	domain.release <- struct{}{}
	domain.release <- struct{}{}
	for range 2 {
		resp, err := stream.Recv()
		require.NoError(t, err)
		require.True(t, resp.GetResult().GetVerdict().GetValid())
	}
	require.NoError(t, stream.CloseSend())
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
}

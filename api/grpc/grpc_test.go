package grpc_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/signet-hsm/signet/access"
	api "github.com/signet-hsm/signet/api/grpc"
	"github.com/signet-hsm/signet/api/internal/apitest"
	rest "github.com/signet-hsm/signet/api/powerauth"
	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const serviceURL = "https://pa.example.com"

// serve runs a server for the test and connects to it.
func serve(tb testing.TB, c api.Config) *grpc.ClientConn {
	tb.Helper()
	s, err := api.New(c)
	require.NoError(tb, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(tb, err)
	tb.Cleanup(func() {
		require.NoError(tb, conn.Close())
		stop()
		require.NoError(tb, <-done)
	})
	return conn
}

// world is the services over an installation.
type world struct {
	*apitest.Installation
	conn *grpc.ClientConn

	reader, writer, client, betaWriter context.Context // with credentials
	shop, betaShop, admin, betaAdmin   context.Context
	shopPassword                       string
}

func bearer(tb testing.TB, token string) context.Context {
	return metadata.AppendToOutgoingContext(tb.Context(), "authorization", "Bearer "+token)
}

func basic(tb testing.TB, user, password string) context.Context {
	return metadata.AppendToOutgoingContext(tb.Context(), "authorization",
		"Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	in := apitest.NewInstallation(tb)
	w := &world{
		Installation: in,
		conn: serve(tb, api.Config{
			Authority: in.Authority, Verifier: in.Registrations, Realms: in.Realms, Basic: in.Basic,
			Registrations: in.Registrations, Operations: in.Operations, Tokens: in.Tokens, Push: in.Push, Callbacks: in.Callbacks,
			Audit: in.Audit, Applications: in.Applications, ServiceURL: serviceURL, Users: in.Basic, Operator: pgtest.Alpha,
		}),
		reader:     bearer(tb, in.Token(tb, pgtest.Alpha, time.Hour, "admin-read")),
		writer:     bearer(tb, in.Token(tb, pgtest.Alpha, time.Hour, "admin-write")),
		client:     bearer(tb, in.Token(tb, pgtest.Alpha, time.Hour, "ast-client")),
		betaWriter: bearer(tb, in.Token(tb, pgtest.Beta, time.Hour, "admin-write", "admin-read", "ast-client")),
		admin:      basic(tb, "admin", in.Login(tb, pgtest.Alpha, "admin", access.PAAdmin, "APP")),
		betaAdmin:  basic(tb, "beta-admin", in.Login(tb, pgtest.Beta, "beta-admin", access.PAAdmin)),
		betaShop:   basic(tb, "beta-shop", in.Login(tb, pgtest.Beta, "beta-shop", access.PAIntegration, "APP")),
	}
	w.shopPassword = in.Login(tb, pgtest.Alpha, "shop", access.PAIntegration, "APP")
	w.shop = basic(tb, "shop", w.shopPassword)
	return w
}

// requireStatus checks code, reason and the violated fields.
func requireStatus(tb testing.TB, err error, code codes.Code, reason string, fields ...string) {
	tb.Helper()
	st := status.Convert(err)
	require.Equal(tb, code, st.Code(), "%v", err)
	var gotReason string
	var gotFields []string
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			gotReason = d.GetReason()
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				gotFields = append(gotFields, v.GetField())
			}
		}
	}
	require.Equal(tb, reason, gotReason)
	require.Equal(tb, fields, gotFields)
}

// violation is the text of the first violated field.
func violation(err error) string {
	for _, d := range status.Convert(err).Details() {
		if d, ok := d.(*errdetails.BadRequest); ok {
			return d.GetFieldViolations()[0].GetDescription()
		}
	}
	return ""
}

func csr(tb testing.TB) []byte {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	der, err := issuance.NewRequest(key)
	require.NoError(tb, err)
	return der
}

const clientID = "01J0000000000000000000000A"

func TestSignersAndCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	signers, certificates := signetv1.NewSignerServiceClient(w.conn), signetv1.NewCertificateServiceClient(w.conn)
	order := &signetv1.CertificateOrder{Csr: csr(t), User: "jane", Client: clientID}

	_, err := signers.GetSigner(w.reader, &signetv1.GetSignerRequest{Signer: "current"})
	requireStatus(t, err, codes.NotFound, "SIGNER_NOT_FOUND")
	_, err = certificates.IssueCertificate(w.writer, &signetv1.IssueCertificateRequest{Order: order})
	requireStatus(t, err, codes.NotFound, "SIGNER_NOT_FOUND")

	var header metadata.MD
	made, err := signers.CreateSigner(w.writer, &signetv1.CreateSignerRequest{Name: "first"}, grpc.Header(&header))
	require.NoError(t, err)
	require.Len(t, header.Get("x-request-id"), 1)
	require.Equal(t, signetv1.SignerState_SIGNER_STATE_ACTIVE, made.GetSigner().GetState())
	require.Equal(t, "alpha", made.GetSigner().GetTenant())
	_, err = signers.CreateSigner(w.writer, &signetv1.CreateSignerRequest{})
	require.NoError(t, err)

	list, err := signers.ListSigners(w.reader, &signetv1.ListSignersRequest{PageSize: 5})
	require.NoError(t, err)
	require.EqualValues(t, 2, list.GetTotal())
	require.Equal(t, signetv1.SignerState_SIGNER_STATE_RETIRED, list.GetSigners()[1].GetState())
	require.Empty(t, list.GetSigners()[0].GetCertificate())
	got, err := signers.GetSigner(w.client, &signetv1.GetSignerRequest{Signer: "current"})
	require.NoError(t, err)
	require.EqualValues(t, 1, got.GetSigner().GetGeneration())
	require.NotEmpty(t, got.GetSigner().GetCertificate())
	chain, err := signers.GetSignerChain(w.client, &signetv1.GetSignerChainRequest{Signer: got.GetSigner().GetId()})
	require.NoError(t, err)
	require.Equal(t, got.GetSigner().GetCertificate(), chain.GetChain()[0])

	answer, err := certificates.IssueCertificate(w.writer, &signetv1.IssueCertificateRequest{Order: order})
	require.NoError(t, err)
	issued := answer.GetIssued()
	require.Len(t, issued.GetCertRef(), 26)
	require.Equal(t, chain.GetChain(), issued.GetChain())
	leaf, err := x509.ParseCertificate(issued.GetCertificate())
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("%032x", leaf.SerialNumber), issued.GetSerial())
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, der := range issued.GetChain() {
		c, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		if bytes.Equal(der, w.Root) {
			roots.AddCert(c)
		} else {
			between.AddCert(c)
		}
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	require.NoError(t, err)

	// Another tenant's signer does not exist.
	_, err = signers.GetSigner(w.betaWriter, &signetv1.GetSignerRequest{Signer: got.GetSigner().GetId()})
	requireStatus(t, err, codes.NotFound, "SIGNER_NOT_FOUND")
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	signers, certificates := signetv1.NewSignerServiceClient(w.conn), signetv1.NewCertificateServiceClient(w.conn)
	signatures := signetv1.NewSignatureServiceClient(w.conn)
	_, err := signers.CreateSigner(w.writer, &signetv1.CreateSignerRequest{})
	require.NoError(t, err)

	_, err = signers.GetSigner(w.reader, &signetv1.GetSignerRequest{})
	requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "signer")
	_, err = signers.ListSigners(w.reader, &signetv1.ListSignersRequest{Page: -1, PageSize: 101})
	requireStatus(t, err, codes.InvalidArgument, "CA_REQUEST", "page", "page_size")
	_, err = signers.CreateSigner(w.writer, &signetv1.CreateSignerRequest{Name: "a\nb"})
	requireStatus(t, err, codes.InvalidArgument, "CA_REQUEST", "name")

	_, err = certificates.IssueCertificate(w.writer, &signetv1.IssueCertificateRequest{})
	requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "order")
	_, err = certificates.IssueCertificate(w.writer, &signetv1.IssueCertificateRequest{Order: &signetv1.CertificateOrder{Csr: csr(t)}})
	requireStatus(t, err, codes.InvalidArgument, "CA_REQUEST", "order.user", "order.client")
	bad := csr(t)
	bad[len(bad)-1] ^= 1
	_, err = certificates.IssueCertificate(w.writer, &signetv1.IssueCertificateRequest{Order: &signetv1.CertificateOrder{Csr: bad, User: "jane", Client: clientID}})
	requireStatus(t, err, codes.InvalidArgument, "CSR_SIGNATURE")
	_, err = certificates.IssueCertificate(w.writer, &signetv1.IssueCertificateRequest{Order: &signetv1.CertificateOrder{Csr: []byte("x"), User: "jane", Client: clientID}})
	requireStatus(t, err, codes.InvalidArgument, "CSR_INVALID")

	_, err = signatures.VerifySignature(w.shop, &signetv1.VerifySignatureRequest{})
	requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "check")
	_, err = signatures.VerifySignature(w.shop, &signetv1.VerifySignatureRequest{Check: &signetv1.SignatureCheck{Method: "POST", UriId: "/x", AuthHeader: "s3cret"}})
	requireStatus(t, err, codes.InvalidArgument, "SIGNATURE_HEADER", "check.auth_header")
	require.NotContains(t, err.Error(), "s3cret")

	_, err = signatures.VerifySignature(w.shop, &signetv1.VerifySignatureRequest{Check: &signetv1.SignatureCheck{Body: make([]byte, 600<<10)}})
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	huge := metadata.AppendToOutgoingContext(w.shop, "x-more", strings.Repeat("x", 32<<10))
	_, err = signatures.VerifySignature(huge, &signetv1.VerifySignatureRequest{})
	require.Error(t, err)
}

// phone makes jane an ACTIVE device of alpha's APP, over REST as devices do.
func (w *world) phone(t *testing.T) *powerauth.Device {
	t.Helper()
	return w.phoneOf(t, "jane")
}

func (w *world) phoneOf(t *testing.T, user string) *powerauth.Device {
	t.Helper()
	served, err := rest.New(rest.Config{Registrations: w.Registrations, Basic: w.Basic, Tokens: w.Tokens})
	require.NoError(t, err)
	mux := http.NewServeMux()
	served.Mount(mux)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	v := w.Versions["alpha/APP"]
	d, err := powerauth.New(powerauth.Config{
		BaseURL: srv.URL, ApplicationKey: base64.StdEncoding.EncodeToString(v.Key[:]), ApplicationSecret: string(v.Secret.Reveal()),
		MasterPublicKey: base64.StdEncoding.EncodeToString(w.Masters["alpha/APP"]), HTTP: srv.Client(),
	})
	require.NoError(t, err)
	made, err := w.Registrations.Create(t.Context(), pgtest.Alpha, registration.CreateParams{Apps: []string{"APP"}, App: "APP", UserID: user})
	require.NoError(t, err)
	require.NoError(t, d.Activate(t.Context(), made.QRCodeData, powerauth.ActivateOptions{Platform: "ios"}))
	require.NoError(t, w.Registrations.Commit(t.Context(), pgtest.Alpha, registration.CommitParams{Apps: []string{"APP"}, ID: made.ID}))
	return d
}

func TestPAAUTH01_VerifySignature(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.phone(t)
	client := signetv1.NewSignatureServiceClient(w.conn)
	body := []byte(`{"amount":"100"}`)
	header, err := d.Sign("POST", "/pay", body, signature.Possession|signature.Knowledge)
	require.NoError(t, err)
	check := &signetv1.SignatureCheck{Method: "POST", UriId: "/pay", AuthHeader: header, Body: body}
	resp, err := client.VerifySignature(w.shop, &signetv1.VerifySignatureRequest{Check: check})
	require.NoError(t, err)
	v := resp.GetVerdict()
	require.True(t, v.GetValid())
	require.Equal(t, "jane", v.GetUserId())
	require.Equal(t, d.ActivationID(), v.GetRegistrationId())
	require.Equal(t, signetv1.RegistrationStatus_REGISTRATION_STATUS_ACTIVE, v.GetRegistrationStatus())
	require.Equal(t, signetv1.SignatureType_SIGNATURE_TYPE_POSSESSION_KNOWLEDGE, v.GetSignatureType())
	require.EqualValues(t, 5, v.GetRemainingAttempts())
	require.Equal(t, "APP", v.GetApplication().GetName())
	require.Equal(t, []string{"ROLE"}, v.GetApplication().GetRoles())

	resp, err = client.VerifySignature(w.shop, &signetv1.VerifySignatureRequest{Check: check})
	require.NoError(t, err)
	require.False(t, resp.GetVerdict().GetValid(), "a replay")
	require.EqualValues(t, 4, resp.GetVerdict().GetRemainingAttempts())

	resp, err = client.VerifySignature(w.betaShop, &signetv1.VerifySignatureRequest{Check: check})
	require.NoError(t, err)
	require.Equal(t, signetv1.RegistrationStatus_REGISTRATION_STATUS_REMOVED, resp.GetVerdict().GetRegistrationStatus())
	require.Empty(t, resp.GetVerdict().GetUserId())

	get, err := d.SignGET("/pay", map[string]string{"a": "ž"}, signature.Possession)
	require.NoError(t, err)
	resp, err = client.VerifySignature(w.shop, &signetv1.VerifySignatureRequest{Check: &signetv1.SignatureCheck{
		Method: "GET", UriId: "/pay", AuthHeader: get, QueryParams: map[string]string{"a": "ž"},
	}})
	require.NoError(t, err)
	require.True(t, resp.GetVerdict().GetValid())
	_, err = client.VerifySignature(w.shop, &signetv1.VerifySignatureRequest{Check: &signetv1.SignatureCheck{
		Method: "GET", UriId: "/pay", AuthHeader: get, Body: body,
	}})
	requireStatus(t, err, codes.InvalidArgument, "REGISTRATION_INVALID", "check.body")
}

// Every method, every role. A method without a line here fails.
func TestMethodsByRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := signetv1.NewSignerServiceClient(w.conn).CreateSigner(w.writer, &signetv1.CreateSignerRequest{})
	require.NoError(t, err)
	// invoke calls with an empty request: a caller who gets past the guard meets
	// the handler's own verdict.
	expect := map[string]struct {
		allowed []string
		past    codes.Code
	}{
		signetv1.SignerService_CreateSigner_FullMethodName:          {[]string{"writer"}, codes.OK},
		signetv1.SignerService_ListSigners_FullMethodName:           {[]string{"reader"}, codes.OK},
		signetv1.SignerService_GetSigner_FullMethodName:             {[]string{"reader", "client"}, codes.InvalidArgument},
		signetv1.SignerService_GetSignerChain_FullMethodName:        {[]string{"reader", "client"}, codes.InvalidArgument},
		signetv1.SignerService_GetSignerPaths_FullMethodName:        {[]string{"reader", "client"}, codes.InvalidArgument},
		signetv1.SignerService_DeleteSigner_FullMethodName:          {[]string{"writer"}, codes.InvalidArgument},
		signetv1.SignerService_RenewSigner_FullMethodName:           {[]string{"writer"}, codes.InvalidArgument},
		signetv1.SignerService_RenewAllSigners_FullMethodName:       {[]string{"writer"}, codes.OK},
		signetv1.SignerService_RevokeSigner_FullMethodName:          {[]string{"writer"}, codes.InvalidArgument},
		signetv1.CertificateService_IssueCertificate_FullMethodName: {[]string{"writer"}, codes.InvalidArgument},

		signetv1.SignerService_RevokeIssuedCertificates_FullMethodName: {[]string{"writer"}, codes.InvalidArgument},
		signetv1.CertificateService_IssueCertificates_FullMethodName:   {[]string{"writer"}, codes.InvalidArgument},
		signetv1.CertificateService_IssueStream_FullMethodName:         {[]string{"writer"}, codes.OK}, // the refusal is in the answer
		signetv1.CertificateService_GetCertificate_FullMethodName:      {[]string{"reader"}, codes.InvalidArgument},
		signetv1.CertificateService_ListCertificates_FullMethodName:    {[]string{"reader"}, codes.OK},
		signetv1.CertificateService_RenewCertificate_FullMethodName:    {[]string{"writer", "client"}, codes.InvalidArgument},
		signetv1.CertificateService_RevokeCertificate_FullMethodName:   {[]string{"writer"}, codes.InvalidArgument},
		signetv1.SdkConfigService_CreateSdkConfig_FullMethodName:       {[]string{"writer"}, codes.InvalidArgument},

		signetv1.SignatureService_VerifySignature_FullMethodName: {[]string{"shop"}, codes.InvalidArgument},

		signetv1.RegistrationService_CreateRegistration_FullMethodName: {[]string{"shop"}, codes.InvalidArgument},
		signetv1.RegistrationService_CommitRegistration_FullMethodName: {[]string{"shop"}, codes.NotFound},
		signetv1.RegistrationService_GetRegistration_FullMethodName:    {[]string{"shop"}, codes.NotFound},
		signetv1.RegistrationService_ListRegistrations_FullMethodName:  {[]string{"shop"}, codes.InvalidArgument},
		signetv1.RegistrationService_ChangeRegistration_FullMethodName: {[]string{"shop"}, codes.InvalidArgument},
		signetv1.RegistrationService_ChangeFlags_FullMethodName:        {[]string{"shop"}, codes.InvalidArgument},
		signetv1.RegistrationService_ListEvents_FullMethodName:         {[]string{"shop"}, codes.NotFound},
		signetv1.OperationService_CreateOperation_FullMethodName:       {[]string{"shop"}, codes.InvalidArgument},
		signetv1.OperationService_GetOperation_FullMethodName:          {[]string{"shop"}, codes.NotFound},
		signetv1.OperationService_CancelOperation_FullMethodName:       {[]string{"shop"}, codes.NotFound},
		signetv1.OperationService_GetOfflineQr_FullMethodName:          {[]string{"shop"}, codes.NotFound},
		signetv1.OperationService_VerifyOfflineOtp_FullMethodName:      {[]string{"shop"}, codes.InvalidArgument},
		signetv1.TokenService_VerifyToken_FullMethodName:               {[]string{"shop"}, codes.InvalidArgument},

		signetv1.MessageService_SendMessage_FullMethodName:           {[]string{"shop"}, codes.InvalidArgument},
		signetv1.MessageService_PostInboxMessage_FullMethodName:      {[]string{"shop"}, codes.NotFound},
		signetv1.MessageService_ListInboxMessages_FullMethodName:     {[]string{"shop"}, codes.NotFound},
		signetv1.MessageService_GetInboxMessage_FullMethodName:       {[]string{"shop"}, codes.NotFound},
		signetv1.MessageService_MarkInboxMessageRead_FullMethodName:  {[]string{"shop"}, codes.NotFound},
		signetv1.AuditService_QueryEvents_FullMethodName:             {[]string{"shop"}, codes.InvalidArgument},
		signetv1.CallbackService_CreateCallback_FullMethodName:       {[]string{"shop"}, codes.NotFound},
		signetv1.CallbackService_ListCallbacks_FullMethodName:        {[]string{"shop"}, codes.NotFound},
		signetv1.CallbackService_RemoveCallback_FullMethodName:       {[]string{"shop"}, codes.NotFound},
		signetv1.CallbackService_RotateCallbackSecret_FullMethodName: {[]string{"shop"}, codes.NotFound},
		signetv1.TemplateService_CreateTemplate_FullMethodName:       {[]string{"admin"}, codes.InvalidArgument},
		signetv1.TemplateService_ListTemplates_FullMethodName:        {[]string{"admin"}, codes.OK},
		signetv1.TemplateService_UpdateTemplate_FullMethodName:       {[]string{"admin"}, codes.InvalidArgument},
		signetv1.TemplateService_DeleteTemplate_FullMethodName:       {[]string{"admin"}, codes.NotFound},
		signetv1.ApplicationService_CreateApplication_FullMethodName: {[]string{"admin"}, codes.InvalidArgument},
		signetv1.ApplicationService_ListApplications_FullMethodName:  {[]string{"admin"}, codes.OK},
		signetv1.ApplicationService_GetApplication_FullMethodName:    {[]string{"admin"}, codes.NotFound},
		signetv1.ApplicationService_AddRoles_FullMethodName:          {[]string{"admin"}, codes.NotFound},
		signetv1.ApplicationService_RemoveRoles_FullMethodName:       {[]string{"admin"}, codes.NotFound},
		signetv1.ApplicationService_CreateVersion_FullMethodName:     {[]string{"admin"}, codes.InvalidArgument},
		signetv1.ApplicationService_ListVersions_FullMethodName:      {[]string{"admin"}, codes.NotFound},
		signetv1.ApplicationService_SetVersionSupport_FullMethodName: {[]string{"admin"}, codes.NotFound},
		signetv1.ApplicationService_RotateMasterKey_FullMethodName:   {[]string{"admin"}, codes.NotFound},
		signetv1.ApplicationService_SetApnsCredential_FullMethodName: {[]string{"admin"}, codes.InvalidArgument},
		signetv1.ApplicationService_SetFcmCredential_FullMethodName:  {[]string{"admin"}, codes.InvalidArgument},
		signetv1.ApplicationService_SetHmsCredential_FullMethodName:  {[]string{"admin"}, codes.InvalidArgument},
		signetv1.UserService_CreateUser_FullMethodName:               {[]string{"admin"}, codes.InvalidArgument},
		signetv1.UserService_GrantApplication_FullMethodName:         {[]string{"admin"}, codes.NotFound},
	}
	callers := map[string]context.Context{
		"reader": w.reader, "writer": w.writer, "client": w.client, "shop": w.shop, "admin": w.admin,
		"no role": bearer(t, w.Token(t, pgtest.Alpha, time.Hour)),
	}
	strangers := map[string]context.Context{
		"nobody":         t.Context(),
		"expired":        bearer(t, w.Token(t, pgtest.Alpha, -time.Hour, "admin-read", "admin-write", "ast-client")),
		"junk":           bearer(t, "junk"),
		"wrong password": basic(t, "shop", "wrong"),
		"unknown user":   basic(t, "nobody", w.shopPassword),
		"two headers":    metadata.AppendToOutgoingContext(w.shop, "authorization", "Bearer x"),
		"other scheme":   metadata.AppendToOutgoingContext(t.Context(), "authorization", "Digest x"),
	}
	for method, set := range api.Privileges() {
		if set.Has(access.Public) {
			continue
		}
		e, ok := expect[method]
		require.True(t, ok, "method %s has no expectation: add its line", method)
		for role, ctx := range callers {
			want := codes.PermissionDenied
			for _, a := range e.allowed {
				if a == role {
					want = e.past
				}
			}
			require.Equal(t, want, status.Code(w.conn.Invoke(ctx, method, &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{})), "%s as %s", method, role)
		}
		for name, ctx := range strangers {
			t.Run(method+" as "+name, func(t *testing.T) {
				err := w.conn.Invoke(ctx, method, &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{})
				requireStatus(t, err, codes.Unauthenticated, "UNAUTHENTICATED")
			})
		}
	}
	err = w.conn.Invoke(w.writer, "/signet.v1.SignerService/NoSuchMethod", &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{})
	require.Equal(t, codes.Unimplemented, status.Code(err))
}

// stub answers for both domains and both kinds of credentials.
type stub struct {
	api.Authority
	verify func(context.Context) error
}

func (s stub) Verify(ctx context.Context, _ tenant.ID, _ registration.VerifyRequest) (registration.Verdict, error) {
	return registration.Verdict{}, s.verify(ctx)
}

func (s stub) ListSigners(ctx context.Context, _ tenant.ID, _ ca.Page) ([]ca.Signer, int, error) {
	return nil, 0, s.verify(ctx)
}

type anyone struct{}

func (anyone) Authenticate(context.Context, string) (access.Principal, error) {
	return access.Principal{Tenant: pgtest.Alpha, Name: "op-1", Privileges: access.Any(access.AdminRead)}, nil
}

// writer is everybody, as an administrator of alpha.
type writer struct{}

func (writer) Authenticate(context.Context, string) (access.Principal, error) {
	return access.Principal{Tenant: pgtest.Alpha, Name: "op-1", Privileges: access.Any(access.AdminWrite)}, nil
}

type nobody struct{}

func (nobody) Authenticate(context.Context, string, string) (access.Principal, error) {
	return access.Principal{}, access.ErrUnauthenticated
}

func list(tb testing.TB, verify func(context.Context) error, c api.Config) error {
	tb.Helper()
	c.Authority, c.Verifier = stub{verify: verify}, stub{verify: verify}
	c.Realms, c.Basic = anyone{}, nobody{}
	conn := serve(tb, c)
	_, err := signetv1.NewSignerServiceClient(conn).ListSigners(bearer(tb, "s3cret-token"), &signetv1.ListSignersRequest{})
	return err
}

func TestPanicsErrorsAndLog(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	err := list(t, func(context.Context) error { panic("hunter2") }, api.Config{Logger: slog.New(slog.NewJSONHandler(&log, nil)), Metrics: reg})
	require.Equal(t, codes.Internal, status.Code(err))
	require.NotContains(t, err.Error(), "hunter2")
	require.Regexp(t, `report id [0-9A-Z]{26}`, err.Error())
	require.NotContains(t, log.String(), "s3cret-token")
	require.Contains(t, log.String(), `"principal":"op-1"`)
	families, err := reg.Gather()
	require.NoError(t, err)
	names := ""
	for _, f := range families {
		names += f.GetName() + " "
	}
	require.Contains(t, names, "signet_grpc_panics_total")
	require.Contains(t, names, "signet_grpc_requests_total")

	require.Equal(t, codes.Internal, status.Code(list(t, func(context.Context) error { return errors.New("hunter2") }, api.Config{})))
}

func TestACallHasADeadline(t *testing.T) {
	t.Parallel()
	var left time.Duration
	require.NoError(t, list(t, func(ctx context.Context) error {
		at, ok := ctx.Deadline()
		require.True(t, ok)
		left = time.Until(at)
		return nil
	}, api.Config{}))
	require.InDelta(t, 10, left.Seconds(), 1)
	err := list(t, func(context.Context) error { return context.DeadlineExceeded }, api.Config{})
	requireStatus(t, err, codes.Unavailable, "UNAVAILABLE")
}

func TestHealthFollowsReadiness(t *testing.T) {
	t.Parallel()
	var out atomic.Bool
	conn := serve(t, api.Config{
		Authority: stub{}, Verifier: stub{}, Realms: anyone{}, Basic: nobody{},
		Ready: func(context.Context) error {
			if out.Load() {
				return errors.New("hsm is out")
			}
			return nil
		},
	})
	health := healthpb.NewHealthClient(conn)
	is := func(want healthpb.HealthCheckResponse_ServingStatus) func() bool {
		return func() bool {
			for _, name := range []string{"", "signet.v1.SignatureService"} {
				resp, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
				require.NoError(t, err)
				if resp.GetStatus() != want {
					return false
				}
			}
			return true
		}
	}
	require.Eventually(t, is(healthpb.HealthCheckResponse_SERVING), time.Second, 10*time.Millisecond)
	out.Store(true)
	require.Eventually(t, is(healthpb.HealthCheckResponse_NOT_SERVING), 4*time.Second, 50*time.Millisecond)
}

func TestReflectionListsTheServices(t *testing.T) {
	t.Parallel()
	conn := serve(t, api.Config{Authority: stub{}, Verifier: stub{}, Realms: anyone{}, Basic: nobody{}})
	stream, err := reflectpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_ListServices{}}))
	resp, err := stream.Recv()
	require.NoError(t, err)
	var names []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	require.Subset(t, names, []string{"signet.v1.SignerService", "signet.v1.CertificateService", "signet.v1.SignatureService", "signet.v1.SdkConfigService", "grpc.health.v1.Health"})
	require.NoError(t, stream.CloseSend())
}

// An outage is no verdict, whatever was asked.
func TestOutageIsUnavailable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	calls := w.goodCalls()
	// A login that was judged lately needs no database, so that calls reach their
	// domain.
	require.NoError(t, w.conn.Invoke(w.shop, signetv1.RegistrationService_ListRegistrations_FullMethodName,
		&signetv1.ListRegistrationsRequest{UserId: "jane"}, &signetv1.ListRegistrationsResponse{}))
	require.NoError(t, w.conn.Invoke(w.admin, signetv1.TemplateService_ListTemplates_FullMethodName,
		&signetv1.ListTemplatesRequest{}, &signetv1.ListTemplatesResponse{}))
	w.DB.Close()
	for method, call := range calls {
		err := w.conn.Invoke(call.ctx, method, call.req, call.resp)
		requireStatus(t, err, codes.Unavailable, "UNAVAILABLE")
	}
	_, err := signetv1.NewSignerServiceClient(w.conn).ListSigners(w.reader, &signetv1.ListSignersRequest{})
	requireStatus(t, err, codes.Unavailable, "UNAVAILABLE")
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := api.New(api.Config{})
	require.Error(t, err)
	_, err = api.New(api.Config{Authority: stub{}, Verifier: stub{}, Realms: anyone{}, Basic: nobody{}, Applications: new(app.Registry), ServiceURL: "pa"})
	require.ErrorContains(t, err, "service URL")
}

func TestAServiceWithoutItsDomainIsUnimplemented(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conn := serve(t, api.Config{Authority: w.Authority, Verifier: w.Registrations, Realms: w.Realms, Basic: w.Basic})
	for method, call := range w.goodCalls() {
		if _, set := method, api.Privileges()[method]; !set.Has(access.PAIntegration) && !set.Has(access.PAAdmin) ||
			method == signetv1.SignatureService_VerifySignature_FullMethodName {
			continue // always there
		}
		require.Equal(t, codes.Unimplemented, status.Code(conn.Invoke(call.ctx, method, call.req, call.resp)), method)
	}
	conn = serve(t, api.Config{
		Authority: w.Authority, Verifier: w.Registrations, Realms: w.Realms, Basic: w.Basic,
		Registrations: w.Registrations, Applications: w.Applications, ServiceURL: serviceURL,
	})
	_, err := signetv1.NewRegistrationServiceClient(conn).ListEvents(w.shop, &signetv1.ListEventsRequest{})
	require.Equal(t, codes.Unimplemented, status.Code(err), "without the audit log")
	_, err = signetv1.NewApplicationServiceClient(conn).SetHmsCredential(w.admin, &signetv1.SetHmsCredentialRequest{})
	require.Equal(t, codes.Unimplemented, status.Code(err), "without pushes")
}

package grpc_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/signet-hsm/signet/access"
	api "github.com/signet-hsm/signet/api/grpc"
	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/signature"
)

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

		signetv1.SignatureService_VerifySignature_FullMethodName:        {[]string{"shop"}, codes.InvalidArgument},
		signetv1.SignatureService_VerifySignatures_FullMethodName:       {[]string{"shop"}, codes.InvalidArgument},
		signetv1.SignatureService_VerifySignatureStream_FullMethodName:  {[]string{"shop"}, codes.OK}, // the refusal is in the answer
		signetv1.TokenService_VerifyTokens_FullMethodName:               {[]string{"shop"}, codes.InvalidArgument},
		signetv1.TokenService_VerifyTokenStream_FullMethodName:          {[]string{"shop"}, codes.OK},
		signetv1.OperationService_VerifyOfflineOtps_FullMethodName:      {[]string{"shop"}, codes.InvalidArgument},
		signetv1.OperationService_VerifyOfflineOtpStream_FullMethodName: {[]string{"shop"}, codes.OK},

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

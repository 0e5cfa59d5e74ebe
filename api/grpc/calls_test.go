package grpc_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/signet-hsm/signet/access"
	api "github.com/signet-hsm/signet/api/grpc"
	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
)

// goodCall is a request whose form is right, and who may make it.
type goodCall struct {
	ctx       context.Context
	req, resp proto.Message
}

// goodCalls has one for each method that is one call with one outcome.
func (w *world) goodCalls() map[string]goodCall {
	const nowhere = "5f7a1c1e-0000-4000-8000-000000000000"
	signed := `PowerAuth pa_activation_id="` + nowhere + `", pa_application_key="AAAAAAAAAAAAAAAAAAAAAA==", pa_nonce="AAAAAAAAAAAAAAAAAAAAAA==", ` +
		`pa_signature_type="possession", pa_signature="AAAAAAAAAAAAAAAAAAAAAA==", pa_version="3.1"`
	token := `PowerAuth token_id="` + nowhere + `", token_digest="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", nonce="AAAAAAAAAAAAAAAAAAAAAA==", ` +
		`timestamp="1700000000000", version="3.1"`
	text := "text"
	ref := "01J0000000000000000000000Z"
	tpl := &signetv1.OperationTemplate{
		Name: "pay", OperationType: "authorize_payment", DataTemplate: "A1*A${amount}CZK",
		SignatureTypes: []signetv1.SignatureType{signetv1.SignatureType_SIGNATURE_TYPE_POSSESSION_KNOWLEDGE},
		Texts:          map[string]*signetv1.TemplateText{"en": {Title: text, Message: text, Labels: map[string]string{"operation.amount": text}}},
	}
	return map[string]goodCall{
		signetv1.SignerService_CreateSigner_FullMethodName:             {w.writer, &signetv1.CreateSignerRequest{Name: "first"}, &signetv1.CreateSignerResponse{}},
		signetv1.SignerService_GetSigner_FullMethodName:                {w.client, &signetv1.GetSignerRequest{Signer: ref}, &signetv1.GetSignerResponse{}},
		signetv1.SignerService_ListSigners_FullMethodName:              {w.reader, &signetv1.ListSignersRequest{Filter: "state = ACTIVE"}, &signetv1.ListSignersResponse{}},
		signetv1.SignerService_DeleteSigner_FullMethodName:             {w.writer, &signetv1.DeleteSignerRequest{Signer: ref}, &signetv1.DeleteSignerResponse{}},
		signetv1.SignerService_GetSignerChain_FullMethodName:           {w.client, &signetv1.GetSignerChainRequest{Signer: ref}, &signetv1.GetSignerChainResponse{}},
		signetv1.SignerService_GetSignerPaths_FullMethodName:           {w.client, &signetv1.GetSignerPathsRequest{Signer: ref}, &signetv1.GetSignerPathsResponse{}},
		signetv1.SignerService_RenewSigner_FullMethodName:              {w.writer, &signetv1.RenewSignerRequest{Signer: ref}, &signetv1.RenewSignerResponse{}},
		signetv1.SignerService_RenewAllSigners_FullMethodName:          {w.writer, &signetv1.RenewAllSignersRequest{}, &signetv1.RenewAllSignersResponse{}},
		signetv1.SignerService_RevokeSigner_FullMethodName:             {w.writer, &signetv1.RevokeSignerRequest{Signer: ref}, &signetv1.RevokeSignerResponse{}},
		signetv1.SignerService_RevokeIssuedCertificates_FullMethodName: {w.writer, &signetv1.RevokeIssuedCertificatesRequest{Signer: ref}, &signetv1.RevokeIssuedCertificatesResponse{}},
		signetv1.CertificateService_IssueCertificate_FullMethodName: {w.writer, &signetv1.IssueCertificateRequest{Order: &signetv1.CertificateOrder{
			Csr: someHolder.csr, User: "jane", Client: clientID, Profile: "GATEWAY", DnsNames: []string{"gw.example.com"}, IpAddresses: nil,
		}}, &signetv1.IssueCertificateResponse{}},
		signetv1.CertificateService_GetCertificate_FullMethodName:   {w.reader, &signetv1.GetCertificateRequest{CertRef: ref}, &signetv1.GetCertificateResponse{}},
		signetv1.CertificateService_ListCertificates_FullMethodName: {w.reader, &signetv1.ListCertificatesRequest{Filter: "user = jane"}, &signetv1.ListCertificatesResponse{}},
		signetv1.CertificateService_RenewCertificate_FullMethodName: {w.client, &signetv1.RenewCertificateRequest{
			Csr: someHolder.csr, Proof: someHolder.proof(time.Now()),
		}, &signetv1.RenewCertificateResponse{}},
		signetv1.CertificateService_RevokeCertificate_FullMethodName: {w.writer, &signetv1.RevokeCertificateRequest{CertRef: ref}, &signetv1.RevokeCertificateResponse{}},
		signetv1.SdkConfigService_CreateSdkConfig_FullMethodName: {w.writer, &signetv1.CreateSdkConfigRequest{
			TlsBundle: [][]byte{someHolder.certificate}, AstUrl: "https://asts.example.com", Services: []*signetv1.SdkConfigEndpoint{{Name: "n", Url: "https://n.example.com"}},
		}, &signetv1.CreateSdkConfigResponse{}},

		signetv1.SignatureService_VerifySignature_FullMethodName: {w.shop, &signetv1.VerifySignatureRequest{
			Check: &signetv1.SignatureCheck{Method: "POST", UriId: "/pay", AuthHeader: signed, QueryParams: nil},
		}, &signetv1.VerifySignatureResponse{}},
		signetv1.RegistrationService_CreateRegistration_FullMethodName: {w.shop, &signetv1.CreateRegistrationRequest{UserId: "ann", Application: "APP", Flags: []string{"A"}, Otp: "", OtpMode: 1}, &signetv1.CreateRegistrationResponse{}},
		signetv1.RegistrationService_CommitRegistration_FullMethodName: {w.shop, &signetv1.CommitRegistrationRequest{RegistrationId: nowhere, ExternalUserId: "op"}, &signetv1.CommitRegistrationResponse{}},
		signetv1.RegistrationService_GetRegistration_FullMethodName:    {w.shop, &signetv1.GetRegistrationRequest{RegistrationId: nowhere}, &signetv1.GetRegistrationResponse{}},
		signetv1.RegistrationService_ListRegistrations_FullMethodName:  {w.shop, &signetv1.ListRegistrationsRequest{UserId: "jane"}, &signetv1.ListRegistrationsResponse{}},
		signetv1.RegistrationService_ChangeRegistration_FullMethodName: {w.shop, &signetv1.ChangeRegistrationRequest{RegistrationId: nowhere, Change: 1, BlockReason: "LOST", ExternalUserId: "op"}, &signetv1.ChangeRegistrationResponse{}},
		signetv1.RegistrationService_ChangeFlags_FullMethodName:        {w.shop, &signetv1.ChangeFlagsRequest{RegistrationId: nowhere, Change: 1, Flags: []string{"A"}}, &signetv1.ChangeFlagsResponse{}},
		signetv1.RegistrationService_ListEvents_FullMethodName:         {w.shop, &signetv1.ListEventsRequest{RegistrationId: nowhere, PageToken: nowhere}, &signetv1.ListEventsResponse{}},
		signetv1.OperationService_CreateOperation_FullMethodName: {w.shop, &signetv1.CreateOperationRequest{
			Order: &signetv1.OperationOrder{UserId: "jane", Template: "pay", Language: "en", ExternalId: "x", Flag: "A", Parameters: map[string]string{"amount": "1"}},
		}, &signetv1.CreateOperationResponse{}},
		signetv1.OperationService_GetOperation_FullMethodName:    {w.shop, &signetv1.GetOperationRequest{OperationId: nowhere}, &signetv1.GetOperationResponse{}},
		signetv1.OperationService_CancelOperation_FullMethodName: {w.shop, &signetv1.CancelOperationRequest{OperationId: nowhere, Reason: "LATE"}, &signetv1.CancelOperationResponse{}},
		signetv1.OperationService_GetOfflineQr_FullMethodName:    {w.shop, &signetv1.GetOfflineQrRequest{OperationId: nowhere, Application: "APP"}, &signetv1.GetOfflineQrResponse{}},
		signetv1.OperationService_VerifyOfflineOtp_FullMethodName: {w.shop, &signetv1.VerifyOfflineOtpRequest{
			Check: &signetv1.OtpCheck{OperationId: nowhere, Otp: "1234567812345678", Nonce: "AAAAAAAAAAAAAAAAAAAAAA==", RegistrationId: nowhere},
		}, &signetv1.VerifyOfflineOtpResponse{}},
		signetv1.TokenService_VerifyToken_FullMethodName: {w.shop, &signetv1.VerifyTokenRequest{Check: &signetv1.TokenCheck{AuthHeader: token}}, &signetv1.VerifyTokenResponse{}},

		signetv1.MessageService_SendMessage_FullMethodName: {w.shop, &signetv1.SendMessageRequest{
			UserId: "jane", RegistrationId: nowhere, Title: &text, Message: &text, Sound: "default",
			Extras: &structpb.Struct{Fields: map[string]*structpb.Value{"k": structpb.NewStringValue("v")}},
		}, &signetv1.SendMessageResponse{}},
		signetv1.MessageService_PostInboxMessage_FullMethodName:      {w.shop, &signetv1.PostInboxMessageRequest{Application: "APP", UserId: "jane", Subject: "s", Summary: "s", Body: "b"}, &signetv1.PostInboxMessageResponse{}},
		signetv1.MessageService_ListInboxMessages_FullMethodName:     {w.shop, &signetv1.ListInboxMessagesRequest{Application: "APP", UserId: "jane", PageToken: nowhere}, &signetv1.ListInboxMessagesResponse{}},
		signetv1.MessageService_GetInboxMessage_FullMethodName:       {w.shop, &signetv1.GetInboxMessageRequest{Application: "APP", UserId: "jane", InboxId: nowhere}, &signetv1.GetInboxMessageResponse{}},
		signetv1.MessageService_MarkInboxMessageRead_FullMethodName:  {w.shop, &signetv1.MarkInboxMessageReadRequest{Application: "APP", UserId: "jane", InboxId: nowhere}, &signetv1.MarkInboxMessageReadResponse{}},
		signetv1.AuditService_QueryEvents_FullMethodName:             {w.shop, &signetv1.QueryEventsRequest{UserId: "jane"}, &signetv1.QueryEventsResponse{}},
		signetv1.CallbackService_CreateCallback_FullMethodName:       {w.shop, &signetv1.CreateCallbackRequest{Application: "APP", Name: "n", Type: 1, CallbackUrl: "https://shop.example.com/"}, &signetv1.CreateCallbackResponse{}},
		signetv1.CallbackService_ListCallbacks_FullMethodName:        {w.shop, &signetv1.ListCallbacksRequest{Application: "APP"}, &signetv1.ListCallbacksResponse{}},
		signetv1.CallbackService_RemoveCallback_FullMethodName:       {w.shop, &signetv1.RemoveCallbackRequest{Application: "APP", CallbackId: nowhere}, &signetv1.RemoveCallbackResponse{}},
		signetv1.CallbackService_RotateCallbackSecret_FullMethodName: {w.shop, &signetv1.RotateCallbackSecretRequest{Application: "APP", CallbackId: nowhere}, &signetv1.RotateCallbackSecretResponse{}},

		signetv1.TemplateService_CreateTemplate_FullMethodName:       {w.admin, &signetv1.CreateTemplateRequest{Template: tpl}, &signetv1.CreateTemplateResponse{}},
		signetv1.TemplateService_ListTemplates_FullMethodName:        {w.admin, &signetv1.ListTemplatesRequest{}, &signetv1.ListTemplatesResponse{}},
		signetv1.TemplateService_UpdateTemplate_FullMethodName:       {w.admin, &signetv1.UpdateTemplateRequest{Template: tpl}, &signetv1.UpdateTemplateResponse{}},
		signetv1.TemplateService_DeleteTemplate_FullMethodName:       {w.admin, &signetv1.DeleteTemplateRequest{Name: "other"}, &signetv1.DeleteTemplateResponse{}},
		signetv1.ApplicationService_CreateApplication_FullMethodName: {w.admin, &signetv1.CreateApplicationRequest{Application: "NEW", Roles: []string{"R"}}, &signetv1.CreateApplicationResponse{}},
		signetv1.ApplicationService_ListApplications_FullMethodName:  {w.admin, &signetv1.ListApplicationsRequest{}, &signetv1.ListApplicationsResponse{}},
		signetv1.ApplicationService_GetApplication_FullMethodName:    {w.admin, &signetv1.GetApplicationRequest{Application: "APP", Version: "default"}, &signetv1.GetApplicationResponse{}},
		signetv1.ApplicationService_AddRoles_FullMethodName:          {w.admin, &signetv1.AddRolesRequest{Application: "APP", Roles: []string{"R"}}, &signetv1.AddRolesResponse{}},
		signetv1.ApplicationService_RemoveRoles_FullMethodName:       {w.admin, &signetv1.RemoveRolesRequest{Application: "APP", Roles: []string{"R"}}, &signetv1.RemoveRolesResponse{}},
		signetv1.ApplicationService_CreateVersion_FullMethodName:     {w.admin, &signetv1.CreateVersionRequest{Application: "APP", Version: "2"}, &signetv1.CreateVersionResponse{}},
		signetv1.ApplicationService_ListVersions_FullMethodName:      {w.admin, &signetv1.ListVersionsRequest{Application: "APP"}, &signetv1.ListVersionsResponse{}},
		signetv1.ApplicationService_SetVersionSupport_FullMethodName: {w.admin, &signetv1.SetVersionSupportRequest{Application: "APP", Version: "default", Supported: true}, &signetv1.SetVersionSupportResponse{}},
		signetv1.ApplicationService_RotateMasterKey_FullMethodName:   {w.admin, &signetv1.RotateMasterKeyRequest{Application: "APP"}, &signetv1.RotateMasterKeyResponse{}},
		signetv1.ApplicationService_SetApnsCredential_FullMethodName: {w.admin, &signetv1.SetApnsCredentialRequest{Application: "APP", Topic: "t", KeyId: "k", TeamId: "t", PrivateKey: apnsKey}, &signetv1.SetApnsCredentialResponse{}},
		signetv1.ApplicationService_SetFcmCredential_FullMethodName:  {w.admin, &signetv1.SetFcmCredentialRequest{Application: "APP", ProjectId: "p", PrivateKey: fcmFile}, &signetv1.SetFcmCredentialResponse{}},
		signetv1.ApplicationService_SetHmsCredential_FullMethodName:  {w.admin, &signetv1.SetHmsCredentialRequest{Application: "APP", HmsAppId: "1", ClientSecret: "s"}, &signetv1.SetHmsCredentialResponse{}},
		signetv1.UserService_CreateUser_FullMethodName:               {w.admin, &signetv1.CreateUserRequest{Username: "new"}, &signetv1.CreateUserResponse{}},
		signetv1.UserService_GrantApplication_FullMethodName:         {w.admin, &signetv1.GrantApplicationRequest{Username: "shop", Application: "OTHER"}, &signetv1.GrantApplicationResponse{}},
	}
}

func TestEveryMethodHasAGoodCall(t *testing.T) {
	t.Parallel()
	calls := (&world{}).goodCalls()
	for method, set := range api.Privileges() {
		switch method { // items have an outcome each (issue_test.go, many_test.go)
		case signetv1.CertificateService_IssueCertificates_FullMethodName, signetv1.CertificateService_IssueStream_FullMethodName,
			signetv1.SignatureService_VerifySignatures_FullMethodName, signetv1.SignatureService_VerifySignatureStream_FullMethodName,
			signetv1.TokenService_VerifyTokens_FullMethodName, signetv1.TokenService_VerifyTokenStream_FullMethodName,
			signetv1.OperationService_VerifyOfflineOtps_FullMethodName, signetv1.OperationService_VerifyOfflineOtpStream_FullMethodName:
			continue
		}
		if !set.Has(access.Public) {
			require.Contains(t, calls, method)
		}
	}
}

// A text with a NUL, an overlong one, and one that is somebody's attempt are
// answered as the caller's fault or not at all, never as ours: nobody can make an
// outage at will.
func TestNoTextMakesAnOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for method, call := range w.goodCalls() {
		for text, allowed := range map[string][]codes.Code{
			"a\x00b":                      {codes.InvalidArgument},
			strings.Repeat("ž", 70_000):   {codes.OK, codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.AlreadyExists},
			"'; drop table audit_event--": {codes.OK, codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.AlreadyExists},
		} {
			for path, req := range variants(call.req, text) {
				err := w.conn.Invoke(call.ctx, method, req, proto.Clone(call.resp))
				require.Contains(t, allowed, status.Code(err), "%s %s: %v", method, path, err)
				if text == "a\x00b" {
					first, _, _ := strings.Cut(path, ".")
					require.Contains(t, status.Convert(err).Proto().String(), first, "%s: the violation names the field", method)
				}
			}
		}
	}
}

// variants are copies of m with one text each replaced, by its path.
func variants(m proto.Message, text string) map[string]proto.Message {
	out := map[string]proto.Message{}
	var walk func(at protoreflect.Message, path string, with func(change func(protoreflect.Message)) proto.Message)
	walk = func(at protoreflect.Message, path string, with func(func(protoreflect.Message)) proto.Message) {
		at.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			name := path + string(f.Name())
			switch {
			case f.IsMap() && f.MapValue().Kind() == protoreflect.StringKind:
				out[name] = with(func(m protoreflect.Message) {
					m.Mutable(f).Map().Set(protoreflect.ValueOfString(text).MapKey(), protoreflect.ValueOfString("1"))
				})
				out[name+".value"] = with(func(m protoreflect.Message) {
					m.Mutable(f).Map().Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
						m.Mutable(f).Map().Set(k, protoreflect.ValueOfString(text))
						return false
					})
				})
			case f.IsMap():
				out[name] = with(func(m protoreflect.Message) {
					of := m.Mutable(f).Map()
					of.Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
						of.Set(protoreflect.ValueOfString(text).MapKey(), v)
						return false
					})
				})
			case f.IsList() && f.Kind() == protoreflect.StringKind:
				out[name] = with(func(m protoreflect.Message) { m.Mutable(f).List().Append(protoreflect.ValueOfString(text)) })
			case f.Kind() == protoreflect.StringKind:
				out[name] = with(func(m protoreflect.Message) { m.Set(f, protoreflect.ValueOfString(text)) })
			case f.Kind() == protoreflect.MessageKind && !f.IsList():
				walk(v.Message(), name+".", func(change func(protoreflect.Message)) proto.Message {
					return with(func(m protoreflect.Message) { change(m.Mutable(f).Message()) })
				})
			}
			return true
		})
	}
	walk(m.ProtoReflect(), "", func(change func(protoreflect.Message)) proto.Message {
		c := proto.Clone(m)
		change(c.ProtoReflect())
		return c
	})
	return out
}

// What another tenant has is not there for this one.
func TestForeignTenantsFindNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.phone(t)
	_, err := signetv1.NewMessageServiceClient(w.conn).PostInboxMessage(w.shop, &signetv1.PostInboxMessageRequest{Application: "APP", UserId: "jane", Subject: "s", Summary: "s"})
	require.NoError(t, err)
	regs := signetv1.NewRegistrationServiceClient(w.conn)
	_, err = regs.ListEvents(w.shop, &signetv1.ListEventsRequest{RegistrationId: d.ActivationID()})
	require.NoError(t, err)

	_, err = regs.ListEvents(w.betaShop, &signetv1.ListEventsRequest{RegistrationId: d.ActivationID()})
	requireStatus(t, err, codes.NotFound, "REGISTRATION_NOT_FOUND")
	inbox, err := signetv1.NewMessageServiceClient(w.conn).ListInboxMessages(w.betaShop, &signetv1.ListInboxMessagesRequest{Application: "APP", UserId: "jane"})
	require.NoError(t, err)
	require.Empty(t, inbox.GetMessages())
	_, err = signetv1.NewAuditServiceClient(w.conn).QueryEvents(w.betaShop, &signetv1.QueryEventsRequest{UserId: "jane"})
	requireStatus(t, err, codes.NotFound, "AUDIT_USER")
	apps := signetv1.NewApplicationServiceClient(w.conn)
	_, err = apps.GetApplication(w.betaAdmin, &signetv1.GetApplicationRequest{Application: "OTHER"})
	requireStatus(t, err, codes.NotFound, "APP_NOT_FOUND")
	list, err := apps.ListApplications(w.betaAdmin, &signetv1.ListApplicationsRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetApplications(), 1)
	_, err = signetv1.NewUserServiceClient(w.conn).GrantApplication(w.betaAdmin, &signetv1.GrantApplicationRequest{Username: "shop", Application: "APP"})
	requireStatus(t, err, codes.NotFound, "USER_UNKNOWN")

	templates := signetv1.NewTemplateServiceClient(w.conn)
	made := w.goodCalls()[signetv1.TemplateService_CreateTemplate_FullMethodName].req.(*signetv1.CreateTemplateRequest)
	_, err = templates.CreateTemplate(w.admin, made)
	require.NoError(t, err)
	_, err = templates.DeleteTemplate(w.betaAdmin, &signetv1.DeleteTemplateRequest{Name: "pay"})
	requireStatus(t, err, codes.NotFound, "OPERATION_TEMPLATE_NOT_FOUND")
	callbacks := signetv1.NewCallbackServiceClient(w.conn)
	endpoint, err := callbacks.CreateCallback(w.shop, &signetv1.CreateCallbackRequest{Application: "APP", Name: "n", Type: 1, CallbackUrl: "https://shop.example.com/"})
	require.NoError(t, err)
	_, err = callbacks.RemoveCallback(w.betaShop, &signetv1.RemoveCallbackRequest{Application: "APP", CallbackId: endpoint.GetCallback().GetCallbackId()})
	requireStatus(t, err, codes.NotFound, "CALLBACK_NOT_FOUND")
}

// What is unknown, another application's, another tenant's or no id at all is one
// answer, byte for byte, in each call that names a registration; and so is
// whatever is wrong with credentials.
func TestUnknownIsOneAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := basic(t, "other-shop", w.Login(t, pgtest.Alpha, "other-shop", access.PAIntegration, "OTHER"))
	none := basic(t, "no-shop", w.Login(t, pgtest.Alpha, "no-shop", access.PAIntegration))
	id := w.phone(t).ActivationID()
	for method, call := range w.goodCalls() {
		f := call.req.ProtoReflect().Descriptor().Fields().ByName("registration_id")
		if f == nil || !strings.HasPrefix(method, "/signet.v1.RegistrationService/") {
			continue
		}
		var answers []string
		for _, c := range []struct {
			ctx context.Context
			id  string
		}{
			{w.shop, uuid.NewString()},
			{w.shop, "no id"},
			{other, id},
			{none, id},
			{w.betaShop, id},
		} {
			req := proto.Clone(call.req)
			req.ProtoReflect().Set(f, protoreflect.ValueOfString(c.id))
			err := w.conn.Invoke(c.ctx, method, req, proto.Clone(call.resp))
			requireStatus(t, err, codes.NotFound, "REGISTRATION_NOT_FOUND")
			answers = append(answers, status.Convert(err).Proto().String())
		}
		for _, a := range answers {
			require.Equal(t, answers[0], a, method)
		}
	}

	var answers []string
	for _, ctx := range []context.Context{
		t.Context(), bearer(t, "junk"), basic(t, "shop", "wrong"), basic(t, "nobody", w.shopPassword), basic(t, "shop", ""),
		basic(t, "other-shop", w.shopPassword),
	} {
		_, err := signetv1.NewRegistrationServiceClient(w.conn).GetRegistration(ctx, &signetv1.GetRegistrationRequest{RegistrationId: id})
		requireStatus(t, err, codes.Unauthenticated, "UNAUTHENTICATED")
		answers = append(answers, status.Convert(err).Proto().String())
	}
	for _, a := range answers {
		require.Equal(t, answers[0], a)
	}
}

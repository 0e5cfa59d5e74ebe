package grpc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/signet-hsm/signet/api/signetv1"
)

// apnsKey and fcmFile are credentials of the right form, made anew.
var apnsKey, fcmFile = newCredentials()

func newCredentials() (apns, fcm []byte) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	inPEM := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		must(err)
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	google, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	fcm, err = json.Marshal(map[string]string{
		"type": "service_account", "client_email": "push@p.example.com", "private_key": string(inPEM(google)), "private_key_id": "1",
	})
	must(err)
	return inPEM(ec), fcm
}

func TestPAADM_Applications(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := signetv1.NewApplicationServiceClient(w.conn)
	made, err := client.CreateApplication(w.admin, &signetv1.CreateApplicationRequest{Application: "NEW", Roles: []string{"A"}})
	require.NoError(t, err)
	d := made.GetDetail()
	require.Equal(t, "NEW", d.GetInfo().GetApplication())
	require.Equal(t, serviceURL, d.GetServiceBaseUrl())
	require.Equal(t, "default", d.GetVersion().GetName())
	for name, c := range map[string]struct {
		value string
		size  int
	}{"key": {d.GetVersion().GetAppKey(), 16}, "secret": {d.GetVersion().GetAppSecret(), 16}, "master key": {d.GetMasterPublicKey(), 65}} {
		raw, err := base64.StdEncoding.DecodeString(c.value)
		require.NoError(t, err, name)
		require.Len(t, raw, c.size, name)
	}
	_, err = client.CreateApplication(w.admin, &signetv1.CreateApplicationRequest{Application: "NEW"})
	requireStatus(t, err, codes.AlreadyExists, "APP_EXISTS")
	_, err = client.CreateApplication(w.admin, &signetv1.CreateApplicationRequest{Roles: []string{""}})
	requireStatus(t, err, codes.InvalidArgument, "APP_INVALID", "application", "roles[0]")

	for range 2 { // repeats are ignored
		_, err = client.AddRoles(w.admin, &signetv1.AddRolesRequest{Application: "NEW", Roles: []string{"B", "A"}})
		require.NoError(t, err)
	}
	_, err = client.RemoveRoles(w.admin, &signetv1.RemoveRolesRequest{Application: "NEW", Roles: []string{"A", "unknown"}})
	require.NoError(t, err)
	_, err = client.AddRoles(w.admin, &signetv1.AddRolesRequest{Application: "NEW", Roles: []string{""}})
	requireStatus(t, err, codes.InvalidArgument, "APP_INVALID", "roles[0]")
	_, err = client.RemoveRoles(w.admin, &signetv1.RemoveRolesRequest{Application: "none", Roles: []string{"A"}})
	requireStatus(t, err, codes.NotFound, "APP_NOT_FOUND")

	got, err := client.GetApplication(w.admin, &signetv1.GetApplicationRequest{Application: "NEW"})
	require.NoError(t, err)
	require.Equal(t, []string{"B"}, got.GetDetail().GetInfo().GetRoles())
	require.Equal(t, d.GetVersion().GetAppSecret(), got.GetDetail().GetVersion().GetAppSecret())
	_, err = client.GetApplication(w.admin, &signetv1.GetApplicationRequest{Application: "NEW", Version: "none"})
	requireStatus(t, err, codes.NotFound, "APP_VERSION")
	list, err := client.ListApplications(w.admin, &signetv1.ListApplicationsRequest{})
	require.NoError(t, err)
	var ids []string
	for _, a := range list.GetApplications() {
		ids = append(ids, a.GetApplication())
	}
	require.Equal(t, []string{"APP", "NEW", "OTHER"}, ids)
}

func TestVersionsAndRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := signetv1.NewApplicationServiceClient(w.conn)
	before, err := client.GetApplication(w.admin, &signetv1.GetApplicationRequest{Application: "APP"})
	require.NoError(t, err)
	rotated, err := client.RotateMasterKey(w.admin, &signetv1.RotateMasterKeyRequest{Application: "APP"})
	require.NoError(t, err)
	require.EqualValues(t, 1, rotated.GetInfo().GetMasterKeyGeneration())
	require.NotEqual(t, before.GetDetail().GetMasterPublicKey(), rotated.GetMasterPublicKey())
	made, err := client.CreateVersion(w.admin, &signetv1.CreateVersionRequest{Application: "APP", Version: "2"})
	require.NoError(t, err)
	require.NotEmpty(t, made.GetVersion().GetAppSecret())
	require.EqualValues(t, 1, made.GetVersion().GetMasterKeyGeneration())
	_, err = client.CreateVersion(w.admin, &signetv1.CreateVersionRequest{Application: "APP", Version: "2"})
	requireStatus(t, err, codes.AlreadyExists, "APP_VERSION_EXISTS")
	_, err = client.CreateVersion(w.admin, &signetv1.CreateVersionRequest{Application: "APP"})
	requireStatus(t, err, codes.InvalidArgument, "APP_INVALID", "version")

	// The overlap: phones of the old version go on with the key they carry.
	for version, want := range map[string]string{"default": before.GetDetail().GetMasterPublicKey(), "2": rotated.GetMasterPublicKey(), "": rotated.GetMasterPublicKey()} {
		got, err := client.GetApplication(w.admin, &signetv1.GetApplicationRequest{Application: "APP", Version: version})
		require.NoError(t, err)
		require.Equal(t, want, got.GetDetail().GetMasterPublicKey(), "version %q", version)
	}

	_, err = client.SetVersionSupport(w.admin, &signetv1.SetVersionSupportRequest{Application: "APP", Version: "default"})
	require.NoError(t, err)
	_, err = client.GetApplication(w.admin, &signetv1.GetApplicationRequest{Application: "APP", Version: "default"})
	requireStatus(t, err, codes.NotFound, "APP_VERSION")
	list, err := client.ListVersions(w.admin, &signetv1.ListVersionsRequest{Application: "APP"})
	require.NoError(t, err)
	require.Len(t, list.GetVersions(), 2)
	require.False(t, list.GetVersions()[0].GetSupported())
	require.True(t, list.GetVersions()[1].GetSupported())
	for _, v := range list.GetVersions() {
		require.Empty(t, v.GetAppSecret())
		require.NotEmpty(t, v.GetAppKey())
	}
	for range 2 { // twice changes nothing
		_, err = client.SetVersionSupport(w.admin, &signetv1.SetVersionSupportRequest{Application: "APP", Version: "default", Supported: true})
		require.NoError(t, err)
	}
	_, err = client.GetApplication(w.admin, &signetv1.GetApplicationRequest{Application: "APP", Version: "default"})
	require.NoError(t, err)
	_, err = client.SetVersionSupport(w.admin, &signetv1.SetVersionSupportRequest{Application: "APP", Version: "none"})
	requireStatus(t, err, codes.NotFound, "APP_VERSION")
	_, err = client.ListVersions(w.admin, &signetv1.ListVersionsRequest{Application: "none"})
	requireStatus(t, err, codes.NotFound, "APP_NOT_FOUND")
}

func TestPAX01_PAX02_Users(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := signetv1.NewUserServiceClient(w.conn)
	made, err := client.CreateUser(w.admin, &signetv1.CreateUserRequest{Username: "tier"})
	require.NoError(t, err)
	require.Len(t, made.GetPassword(), 43)
	_, err = client.CreateUser(w.admin, &signetv1.CreateUserRequest{Username: "beta-shop"})
	requireStatus(t, err, codes.AlreadyExists, "USER_EXISTS")
	_, err = client.CreateUser(w.admin, &signetv1.CreateUserRequest{Username: "a:b"})
	requireStatus(t, err, codes.InvalidArgument, "CREDENTIAL_INVALID", "username")

	tier := basic(t, "tier", made.GetPassword())
	regs := signetv1.NewRegistrationServiceClient(w.conn)
	order := &signetv1.CreateRegistrationRequest{UserId: "ann", Application: "OTHER"}
	_, err = regs.CreateRegistration(tier, order)
	requireStatus(t, err, codes.NotFound, "REGISTRATION_NOT_FOUND")
	for range 2 {
		_, err = client.GrantApplication(w.admin, &signetv1.GrantApplicationRequest{Username: "tier", Application: "OTHER"})
		require.NoError(t, err)
	}
	_, err = regs.CreateRegistration(tier, order)
	require.NoError(t, err)
	_, err = client.GrantApplication(w.admin, &signetv1.GrantApplicationRequest{Username: "tier", Application: "none"})
	requireStatus(t, err, codes.NotFound, "APP_NOT_FOUND")
	_, err = client.GrantApplication(w.admin, &signetv1.GrantApplicationRequest{Username: "none", Application: "OTHER"})
	requireStatus(t, err, codes.NotFound, "USER_UNKNOWN")
	_, err = client.CreateUser(tier, &signetv1.CreateUserRequest{Username: "more"})
	requireStatus(t, err, codes.PermissionDenied, "FORBIDDEN")
}

func TestPAX03_PAX04_PushCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := signetv1.NewApplicationServiceClient(w.conn)
	apns := &signetv1.SetApnsCredentialRequest{
		Application: "APP", Topic: "com.example.app", KeyId: "ABCDEFGHIJ", TeamId: "KLMNOPQRST", PrivateKey: apnsKey,
		Environment: signetv1.ApnsEnvironment_APNS_ENVIRONMENT_DEVELOPMENT,
	}
	fcm := &signetv1.SetFcmCredentialRequest{Application: "APP", ProjectId: "shop", PrivateKey: fcmFile}
	hms := &signetv1.SetHmsCredentialRequest{Application: "APP", HmsAppId: "1234", ClientSecret: "hunter2"}
	_, err := client.SetApnsCredential(w.admin, apns)
	require.NoError(t, err)
	_, err = client.SetFcmCredential(w.admin, fcm)
	require.NoError(t, err)
	_, err = client.SetHmsCredential(w.admin, hms)
	require.NoError(t, err)
	var platforms int
	require.NoError(t, w.DB.QueryRow(t.Context(), `select count(*) from push_credential where tenant_id = 'alpha' and app_id = 'APP'`).Scan(&platforms))
	require.Equal(t, 3, platforms)

	_, err = client.SetApnsCredential(w.admin, &signetv1.SetApnsCredentialRequest{Application: "APP", PrivateKey: fcmFile})
	requireStatus(t, err, codes.InvalidArgument, "PUSH_REQUEST", "topic", "key_id", "team_id", "private_key")
	require.NotContains(t, err.Error(), "PRIVATE KEY")
	apns.Environment = 9
	_, err = client.SetApnsCredential(w.admin, apns)
	requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "environment")
	_, err = client.SetFcmCredential(w.admin, &signetv1.SetFcmCredentialRequest{Application: "APP", PrivateKey: apnsKey})
	requireStatus(t, err, codes.InvalidArgument, "PUSH_REQUEST", "project_id", "private_key")
	_, err = client.SetHmsCredential(w.admin, &signetv1.SetHmsCredentialRequest{Application: "APP"})
	requireStatus(t, err, codes.InvalidArgument, "PUSH_REQUEST", "hms_app_id", "client_secret")
	apns.Application, apns.Environment, fcm.Application, hms.Application = "none", 0, "none", "none"
	_, err = client.SetApnsCredential(w.admin, apns)
	requireStatus(t, err, codes.NotFound, "APP_NOT_FOUND")
	_, err = client.SetFcmCredential(w.admin, fcm)
	requireStatus(t, err, codes.NotFound, "APP_NOT_FOUND")
	_, err = client.SetHmsCredential(w.admin, hms)
	requireStatus(t, err, codes.NotFound, "APP_NOT_FOUND")
}

func TestPAX06_PAX07_PAX08_PAX09_Templates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := signetv1.NewTemplateServiceClient(w.conn)
	most := int64(3)
	tpl := &signetv1.OperationTemplate{
		Name: "pay", OperationType: "authorize_payment", DataTemplate: "A1*A${amount}${currency}",
		SignatureTypes:  []signetv1.SignatureType{signetv1.SignatureType_SIGNATURE_TYPE_POSSESSION_KNOWLEDGE, signetv1.SignatureType_SIGNATURE_TYPE_POSSESSION_BIOMETRY},
		MaxFailureCount: &most, Expiration: durationpb.New(time.Minute), RiskFlags: "XF", ProximityCheck: true,
		Texts: map[string]*signetv1.TemplateText{
			"en": {Title: "Payment", Message: "Pay ${amount}"},
			"cs": {Title: "Platba", Message: "Zaplatit ${amount}", Labels: map[string]string{"operation.amount": "Částka"}},
		},
	}
	made, err := client.CreateTemplate(w.admin, &signetv1.CreateTemplateRequest{Template: tpl})
	require.NoError(t, err)
	list, err := client.ListTemplates(w.admin, &signetv1.ListTemplatesRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetTemplates(), 1)
	for _, got := range []*signetv1.OperationTemplate{made.GetTemplate(), list.GetTemplates()[0]} {
		require.Equal(t, tpl.String(), got.String(), "each field comes back as it was set")
	}
	_, err = client.CreateTemplate(w.admin, &signetv1.CreateTemplateRequest{Template: tpl})
	requireStatus(t, err, codes.AlreadyExists, "OPERATION_TEMPLATE_EXISTS")

	tpl.MaxFailureCount, tpl.Expiration, tpl.Texts = nil, nil, nil
	_, err = client.UpdateTemplate(w.admin, &signetv1.UpdateTemplateRequest{Template: tpl})
	require.NoError(t, err)
	list, err = client.ListTemplates(w.admin, &signetv1.ListTemplatesRequest{})
	require.NoError(t, err)
	require.EqualValues(t, 5, list.GetTemplates()[0].GetMaxFailureCount(), "the defaults")
	require.Equal(t, 5*time.Minute, list.GetTemplates()[0].GetExpiration().AsDuration())
	require.Empty(t, list.GetTemplates()[0].GetTexts())

	zero := int64(0)
	_, err = client.CreateTemplate(w.admin, &signetv1.CreateTemplateRequest{Template: &signetv1.OperationTemplate{
		SignatureTypes: []signetv1.SignatureType{99}, MaxFailureCount: &zero, Expiration: &durationpb.Duration{},
	}})
	requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "template.max_failure_count", "template.expiration", "template.signature_types[0]")
	_, err = client.CreateTemplate(w.admin, &signetv1.CreateTemplateRequest{Template: &signetv1.OperationTemplate{
		Expiration: durationpb.New(1500 * time.Millisecond), RiskFlags: "x", Texts: map[string]*signetv1.TemplateText{"en": {Title: "${"}},
	}})
	requireStatus(t, err, codes.InvalidArgument, "OPERATION_INVALID", "template.name", "template.operation_type", "template.data_template",
		"template.signature_types", "template.expiration", "template.risk_flags", "template.texts.en.title", "template.texts.en.message")
	_, err = client.CreateTemplate(w.admin, &signetv1.CreateTemplateRequest{})
	requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "template")

	tpl.Name = "none"
	_, err = client.UpdateTemplate(w.admin, &signetv1.UpdateTemplateRequest{Template: tpl})
	requireStatus(t, err, codes.NotFound, "OPERATION_TEMPLATE_NOT_FOUND")
	_, err = client.DeleteTemplate(w.admin, &signetv1.DeleteTemplateRequest{Name: "pay"})
	require.NoError(t, err)
	_, err = client.DeleteTemplate(w.admin, &signetv1.DeleteTemplateRequest{Name: "pay"})
	requireStatus(t, err, codes.NotFound, "OPERATION_TEMPLATE_NOT_FOUND")
}

func TestPAX05_Callbacks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := signetv1.NewCallbackServiceClient(w.conn)
	order := &signetv1.CreateCallbackRequest{
		Application: "APP", Name: "status", CallbackUrl: "https://shop.example.com/hook?key=1",
		Type: signetv1.CallbackType_CALLBACK_TYPE_OPERATION_STATUS_CHANGE,
	}
	made, err := client.CreateCallback(w.shop, order)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(made.GetSecret(), "whsec_"))
	_, err = client.CreateCallback(w.shop, order)
	requireStatus(t, err, codes.AlreadyExists, "CALLBACK_EXISTS")
	_, err = client.CreateCallback(w.shop, &signetv1.CreateCallbackRequest{Application: "APP", CallbackUrl: "https://127.0.0.1/"})
	requireStatus(t, err, codes.InvalidArgument, "CALLBACK_INVALID", "name", "type", "callback_url")
	list, err := client.ListCallbacks(w.shop, &signetv1.ListCallbacksRequest{Application: "APP"})
	require.NoError(t, err)
	require.Len(t, list.GetCallbacks(), 1)
	require.Equal(t, made.GetCallback().String(), list.GetCallbacks()[0].String())
	require.Equal(t, order.GetType(), list.GetCallbacks()[0].GetType())

	id := made.GetCallback().GetCallbackId()
	rotated, err := client.RotateCallbackSecret(w.shop, &signetv1.RotateCallbackSecretRequest{Application: "APP", CallbackId: id})
	require.NoError(t, err)
	require.NotEqual(t, made.GetSecret(), rotated.GetSecret())
	_, err = client.RemoveCallback(w.shop, &signetv1.RemoveCallbackRequest{Application: "APP", CallbackId: id})
	require.NoError(t, err)
	_, err = client.RemoveCallback(w.shop, &signetv1.RemoveCallbackRequest{Application: "APP", CallbackId: id})
	requireStatus(t, err, codes.NotFound, "CALLBACK_NOT_FOUND")
	_, err = client.RotateCallbackSecret(w.shop, &signetv1.RotateCallbackSecretRequest{Application: "APP", CallbackId: "x"})
	requireStatus(t, err, codes.NotFound, "CALLBACK_NOT_FOUND")
	for _, application := range []string{"OTHER", "none"} { // there, but without a grant, is as good as nothing
		order.Application = application
		_, err = client.CreateCallback(w.shop, order)
		requireStatus(t, err, codes.NotFound, "APP_NOT_FOUND")
		_, err = client.ListCallbacks(w.shop, &signetv1.ListCallbacksRequest{Application: application})
		requireStatus(t, err, codes.NotFound, "APP_NOT_FOUND")
	}
}

package grpc_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	api "github.com/signet-hsm/signet/api/grpc"
	"github.com/signet-hsm/signet/api/internal/apitest"
	"github.com/signet-hsm/signet/api/signetv1"
)

// methods has for each operation of the contracts the method that serves the
// same, or why there is none. The first operations of the CA knew one signer: the
// current one.
var methods = map[string]struct{ method, why string }{
	"CA-01":   {method: signetv1.SignerService_GetSigner_FullMethodName},
	"CA-02":   {method: signetv1.SignerService_CreateSigner_FullMethodName},
	"CA-03":   {method: signetv1.SignerService_RenewSigner_FullMethodName},
	"CA-04":   {method: signetv1.SignerService_DeleteSigner_FullMethodName},
	"CA-05":   {method: signetv1.SignerService_ListSigners_FullMethodName},
	"CA-06":   {method: signetv1.SignerService_CreateSigner_FullMethodName},
	"CA-07":   {method: signetv1.SignerService_GetSigner_FullMethodName},
	"CA-08":   {method: signetv1.SignerService_DeleteSigner_FullMethodName},
	"CA-09":   {method: signetv1.SignerService_GetSignerChain_FullMethodName},
	"CA-10":   {method: signetv1.SignerService_RenewSigner_FullMethodName},
	"CA-11":   {method: signetv1.SignerService_RevokeSigner_FullMethodName},
	"CA-12":   {method: signetv1.CertificateService_ListCertificates_FullMethodName},
	"CA-13":   {method: signetv1.CertificateService_GetCertificate_FullMethodName},
	"CA-14":   {method: signetv1.SdkConfigService_CreateSdkConfig_FullMethodName},
	"CA-X-01": {method: signetv1.CertificateService_IssueCertificate_FullMethodName},
	"CA-X-02": {method: signetv1.CertificateService_RevokeCertificate_FullMethodName},
	"CA-X-03": {method: signetv1.CertificateService_RenewCertificate_FullMethodName},

	"PA-REG-01":  {method: signetv1.RegistrationService_CreateRegistration_FullMethodName},
	"PA-REG-02":  {method: signetv1.RegistrationService_CommitRegistration_FullMethodName},
	"PA-REG-03":  {method: signetv1.RegistrationService_GetRegistration_FullMethodName},
	"PA-REG-04":  {method: signetv1.RegistrationService_ListRegistrations_FullMethodName},
	"PA-REG-05":  {method: signetv1.RegistrationService_ChangeRegistration_FullMethodName},
	"PA-REG-06":  {method: signetv1.RegistrationService_ChangeRegistration_FullMethodName},
	"PA-REG-07":  {method: signetv1.RegistrationService_ChangeFlags_FullMethodName},
	"PA-REG-08":  {method: signetv1.RegistrationService_ChangeFlags_FullMethodName},
	"PA-REG-09":  {method: signetv1.RegistrationService_ChangeFlags_FullMethodName},
	"PA-OP-01":   {method: signetv1.OperationService_CreateOperation_FullMethodName},
	"PA-OP-02":   {method: signetv1.OperationService_GetOperation_FullMethodName},
	"PA-OP-03":   {method: signetv1.OperationService_CancelOperation_FullMethodName},
	"PA-OP-04":   {method: signetv1.OperationService_GetOfflineQr_FullMethodName},
	"PA-OP-05":   {method: signetv1.OperationService_VerifyOfflineOtp_FullMethodName},
	"PA-AUTH-01": {method: signetv1.SignatureService_VerifySignature_FullMethodName},
	"PA-AUTH-02": {method: signetv1.TokenService_VerifyToken_FullMethodName},
	"PA-PUSH-01": {method: signetv1.MessageService_SendMessage_FullMethodName},
	"PA-AUD-01":  {method: signetv1.AuditService_QueryEvents_FullMethodName},
	"PA-ADM-01":  {method: signetv1.ApplicationService_CreateApplication_FullMethodName},
	"PA-ADM-02":  {method: signetv1.ApplicationService_ListApplications_FullMethodName},
	"PA-ADM-03":  {method: signetv1.ApplicationService_GetApplication_FullMethodName},
	"PA-ADM-04":  {method: signetv1.ApplicationService_AddRoles_FullMethodName},
	"PA-ADM-05":  {method: signetv1.ApplicationService_RemoveRoles_FullMethodName},
	"PA-INT-01":  {why: "for the inner systems of the original, which speak REST; neither a tier nor an administrator calls it"},
	"PA-X-01":    {method: signetv1.UserService_CreateUser_FullMethodName},
	"PA-X-02":    {method: signetv1.UserService_GrantApplication_FullMethodName},
	"PA-X-03":    {method: signetv1.ApplicationService_SetApnsCredential_FullMethodName},
	"PA-X-04":    {method: signetv1.ApplicationService_SetFcmCredential_FullMethodName},
	"PA-X-05":    {method: signetv1.CallbackService_CreateCallback_FullMethodName},
	"PA-X-06":    {method: signetv1.TemplateService_CreateTemplate_FullMethodName},
	"PA-X-07":    {method: signetv1.TemplateService_ListTemplates_FullMethodName},
	"PA-X-08":    {method: signetv1.TemplateService_UpdateTemplate_FullMethodName},
	"PA-X-09":    {method: signetv1.TemplateService_DeleteTemplate_FullMethodName},
	"PA-X-10":    {method: signetv1.MessageService_PostInboxMessage_FullMethodName},
	"PA-X-11":    {method: signetv1.MessageService_ListInboxMessages_FullMethodName},
	"PA-X-12":    {method: signetv1.ApplicationService_SetHmsCredential_FullMethodName},
	"PA-X-13":    {method: signetv1.CallbackService_ListCallbacks_FullMethodName},
	"PA-X-14":    {method: signetv1.CallbackService_RemoveCallback_FullMethodName},
	"PA-X-15":    {method: signetv1.CallbackService_RotateCallbackSecret_FullMethodName},
	"PA-X-16":    {method: signetv1.ApplicationService_ListVersions_FullMethodName},
	"PA-X-17":    {method: signetv1.ApplicationService_CreateVersion_FullMethodName},
	"PA-X-18":    {method: signetv1.ApplicationService_SetVersionSupport_FullMethodName},
	"PA-X-19":    {method: signetv1.ApplicationService_RotateMasterKey_FullMethodName},
	"PA-X-20":    {method: signetv1.OperationService_GetOfflineQr_FullMethodName},
}

func TestWhatRESTServesHasAMethod(t *testing.T) {
	t.Parallel()
	for _, op := range apitest.Coverage(t, "CA-", "PA-") {
		m, ok := methods[op.ID]
		if !op.Served {
			require.False(t, ok, "%s is not served", op.ID)
			continue
		}
		require.True(t, (m.method == "") != (m.why == ""), "%s %s %s: name its gRPC method, or why it has none", op.ID, op.Method, op.Path)
		if m.method != "" {
			require.Contains(t, api.Privileges(), m.method, op.ID)
		}
	}
}

package grpc_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/signature"
)

func TestPAREG_Registrations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := w.shop
	client := signetv1.NewRegistrationServiceClient(w.conn)
	made, err := client.CreateRegistration(ctx, &signetv1.CreateRegistrationRequest{UserId: "ann", Application: "APP", Flags: []string{"A"}})
	require.NoError(t, err)
	id := made.GetRegistrationId()
	_, err = client.CreateRegistration(ctx, &signetv1.CreateRegistrationRequest{UserId: "ann", Application: "APP"})
	requireStatus(t, err, codes.FailedPrecondition, "REGISTRATION_NOT_ALLOWED")
	_, err = client.CreateRegistration(ctx, &signetv1.CreateRegistrationRequest{UserId: "ann", Application: "APP", OtpMode: 99})
	requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "otp_mode")

	_, err = client.ChangeFlags(ctx, &signetv1.ChangeFlagsRequest{RegistrationId: id, Change: signetv1.FlagChange_FLAG_CHANGE_ADD, Flags: []string{"B"}})
	require.NoError(t, err)
	got, err := client.GetRegistration(ctx, &signetv1.GetRegistrationRequest{RegistrationId: id})
	require.NoError(t, err)
	require.Equal(t, signetv1.RegistrationStatus_REGISTRATION_STATUS_CREATED, got.GetRegistration().GetStatus())
	require.Equal(t, []string{"A", "B"}, got.GetRegistration().GetFlags())
	code, _, _ := strings.Cut(made.GetActivationQrCodeData(), "#")
	require.True(t, strings.HasPrefix(got.GetRegistration().GetActivationQrCodeData(), code+"#"))
	_, err = client.GetRegistration(w.betaShop, &signetv1.GetRegistrationRequest{RegistrationId: id})
	requireStatus(t, err, codes.NotFound, "REGISTRATION_NOT_FOUND")

	_, err = client.CommitRegistration(ctx, &signetv1.CommitRegistrationRequest{RegistrationId: id})
	requireStatus(t, err, codes.FailedPrecondition, "REGISTRATION_CHANGE")
	list, err := client.ListRegistrations(ctx, &signetv1.ListRegistrationsRequest{UserId: "ann"})
	require.NoError(t, err)
	require.Len(t, list.GetRegistrations(), 1)
	_, err = client.ChangeRegistration(ctx, &signetv1.ChangeRegistrationRequest{RegistrationId: id, Change: signetv1.RegistrationChange_REGISTRATION_CHANGE_REMOVE})
	require.NoError(t, err)
	_, err = client.ChangeRegistration(ctx, &signetv1.ChangeRegistrationRequest{RegistrationId: id, Change: signetv1.RegistrationChange_REGISTRATION_CHANGE_BLOCK})
	requireStatus(t, err, codes.NotFound, "REGISTRATION_NOT_FOUND")
}

func TestPAOP_PAAUTH02_Operations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.phone(t)
	_, err := w.Operations.CreateTemplate(t.Context(), pgtest.Alpha, operation.Template{
		Name: "pay", Type: "authorize_payment", Data: "A1*A${amount}CZK", Types: []signature.Factor{signature.PossessionKnowledge},
	}, "test")
	require.NoError(t, err)
	client := signetv1.NewOperationServiceClient(w.conn)
	order := &signetv1.OperationOrder{UserId: "jane", Template: "pay", Parameters: map[string]string{"amount": "100"}}
	made, err := client.CreateOperation(w.shop, &signetv1.CreateOperationRequest{Order: order})
	require.NoError(t, err)
	id := made.GetOperation().GetOperationId()
	require.Equal(t, signetv1.OperationState_OPERATION_STATE_PENDING, made.GetOperation().GetState())
	_, err = client.CreateOperation(w.shop, &signetv1.CreateOperationRequest{Order: &signetv1.OperationOrder{UserId: "jane", Template: "pay", ExternalId: strings.Repeat("x", 256)}})
	requireStatus(t, err, codes.InvalidArgument, "OPERATION_INVALID", "external_id")
	_, err = client.GetOperation(w.betaShop, &signetv1.GetOperationRequest{OperationId: id})
	requireStatus(t, err, codes.NotFound, "OPERATION_NOT_FOUND")

	code, err := client.GetOfflineQr(w.shop, &signetv1.GetOfflineQrRequest{OperationId: id, RegistrationId: d.ActivationID()})
	require.NoError(t, err)
	nonce, err := base64.StdEncoding.DecodeString(code.GetNonce())
	require.NoError(t, err)
	otp, err := d.SignOffline(powerauth.Offline{OperationID: id, Data: "A1*A100CZK", Nonce: [16]byte(nonce)}, signature.PossessionKnowledge)
	require.NoError(t, err)
	check := &signetv1.OtpCheck{OperationId: id, Otp: otp + "x", Nonce: code.GetNonce(), RegistrationId: d.ActivationID()}
	_, err = client.VerifyOfflineOtp(w.shop, &signetv1.VerifyOfflineOtpRequest{Check: check})
	requireStatus(t, err, codes.InvalidArgument, "OTP_INVALID")
	check.Otp = otp
	v, err := client.VerifyOfflineOtp(w.shop, &signetv1.VerifyOfflineOtpRequest{Check: check})
	require.NoError(t, err)
	require.True(t, v.GetVerdict().GetValid())
	require.Equal(t, signetv1.OperationState_OPERATION_STATE_APPROVED, v.GetVerdict().GetOperationState())
	_, err = client.CancelOperation(w.shop, &signetv1.CancelOperationRequest{OperationId: id})
	requireStatus(t, err, codes.FailedPrecondition, "OPERATION_STATE_CHANGE")

	held, err := d.CreateToken(t.Context(), signature.Possession)
	require.NoError(t, err)
	header, err := d.TokenHeader(held)
	require.NoError(t, err)
	tokens := signetv1.NewTokenServiceClient(w.conn)
	for _, want := range []bool{true, false} { // good once
		got, err := tokens.VerifyToken(w.shop, &signetv1.VerifyTokenRequest{Check: &signetv1.TokenCheck{AuthHeader: header}})
		require.NoError(t, err)
		require.Equal(t, want, got.GetVerdict().GetValid())
	}
	_, err = tokens.VerifyToken(w.shop, &signetv1.VerifyTokenRequest{Check: &signetv1.TokenCheck{AuthHeader: "PowerAuth x"}})
	requireStatus(t, err, codes.InvalidArgument, "TOKEN_HEADER", "check.auth_header")
}

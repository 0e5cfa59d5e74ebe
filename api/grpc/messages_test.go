package grpc_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/signature"
)

func TestPAPUSH01_SendMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.phone(t)
	client := signetv1.NewMessageServiceClient(w.conn)
	extras, err := structpb.NewStruct(map[string]any{"fooBar": []any{1.0, true, nil, "x"}})
	require.NoError(t, err)
	good := &signetv1.SendMessageRequest{
		UserId: "jane", RegistrationId: d.ActivationID(), Title: proto.String("Hello"), Message: proto.String("World"), Extras: extras,
	}
	_, err = client.SendMessage(w.shop, good)
	require.NoError(t, err)
	_, err = client.SendMessage(w.shop, &signetv1.SendMessageRequest{UserId: "without a phone", Silent: true})
	require.NoError(t, err)
	events, err := signetv1.NewRegistrationServiceClient(w.conn).ListEvents(w.shop, &signetv1.ListEventsRequest{RegistrationId: d.ActivationID()})
	require.NoError(t, err)
	require.Equal(t, "push_send", events.GetEvents()[0].GetEventType())

	_, err = client.SendMessage(w.shop, &signetv1.SendMessageRequest{
		RegistrationId: "x", Title: proto.String(""), Sound: strings.Repeat("x", 256), Message: proto.String("m"),
		Extras: &structpb.Struct{Fields: map[string]*structpb.Value{"google.fooBar": structpb.NewNullValue()}},
	})
	requireStatus(t, err, codes.InvalidArgument, "PUSH_REQUEST", "user_id", "registration_id", "title", "sound", "extras.google.fooBar")
	for name, c := range map[string]struct {
		change func(*signetv1.SendMessageRequest)
		says   string
	}{
		"no title":           {func(r *signetv1.SendMessageRequest) { r.Title = nil }, "Title must not be blank"},
		"blank message":      {func(r *signetv1.SendMessageRequest) { r.Message = proto.String(" ") }, "Message must not be blank"},
		"too long":           {func(r *signetv1.SendMessageRequest) { r.Message = proto.String(strings.Repeat("x", 5000)) }, "must not be larger"},
		"other user":         {func(r *signetv1.SendMessageRequest) { r.UserId = "joe" }, "no such active registration"},
		"no such phone":      {func(r *signetv1.SendMessageRequest) { r.RegistrationId = uuid.NewString() }, "no such active registration"},
		"a foreign tenant's": {nil, "no such active registration"},
	} {
		req, ctx := proto.Clone(good).(*signetv1.SendMessageRequest), w.shop
		if c.change == nil {
			ctx = w.betaShop
		} else {
			c.change(req)
		}
		_, err = client.SendMessage(ctx, req)
		requireStatus(t, err, codes.InvalidArgument, "PUSH_MESSAGE")
		require.Contains(t, status.Convert(err).Message(), c.says, name)
	}
}

func TestPUSHX12_Inbox(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := signetv1.NewMessageServiceClient(w.conn)
	var ids []string
	for i := range 5 {
		posted, err := client.PostInboxMessage(w.shop, &signetv1.PostInboxMessageRequest{
			Application: "APP", UserId: "jane", Subject: fmt.Sprint("subject ", i), Summary: "summary", Body: "<b>body</b>",
			Type: signetv1.InboxMessageType_INBOX_MESSAGE_TYPE_HTML,
		})
		require.NoError(t, err)
		require.Nil(t, posted.GetMessage().GetReadAt())
		ids = append([]string{posted.GetMessage().GetInboxId()}, ids...)
	}
	read := &signetv1.MarkInboxMessageReadRequest{Application: "APP", UserId: "jane", InboxId: ids[1]}
	for range 2 {
		_, err := client.MarkInboxMessageRead(w.shop, read)
		require.NoError(t, err)
	}
	for _, size := range []int32{1, 2, 4, 5, 0} {
		var got []string
		req := &signetv1.ListInboxMessagesRequest{Application: "APP", UserId: "jane", PageSize: size}
		for more := true; more; more = req.PageToken != "" {
			page, err := client.ListInboxMessages(w.shop, req)
			require.NoError(t, err)
			require.NotEmpty(t, page.GetMessages())
			for _, m := range page.GetMessages() {
				require.Empty(t, m.GetBody())
				require.Equal(t, m.GetInboxId() == ids[1], m.GetReadAt() != nil)
				got = append(got, m.GetInboxId())
			}
			req.PageToken = page.GetNextPageToken()
		}
		require.Equal(t, ids, got)
	}
	unread, err := client.ListInboxMessages(w.shop, &signetv1.ListInboxMessagesRequest{Application: "APP", UserId: "jane", UnreadOnly: true})
	require.NoError(t, err)
	require.Len(t, unread.GetMessages(), 4)
	one, err := client.GetInboxMessage(w.shop, &signetv1.GetInboxMessageRequest{Application: "APP", UserId: "jane", InboxId: ids[0]})
	require.NoError(t, err)
	require.Equal(t, "<b>body</b>", one.GetMessage().GetBody())
	require.Equal(t, signetv1.InboxMessageType_INBOX_MESSAGE_TYPE_HTML, one.GetMessage().GetType())

	_, err = client.GetInboxMessage(w.shop, &signetv1.GetInboxMessageRequest{Application: "APP", UserId: "joe", InboxId: ids[0]})
	requireStatus(t, err, codes.NotFound, "INBOX_NOT_FOUND")
	_, err = client.MarkInboxMessageRead(w.betaShop, read)
	requireStatus(t, err, codes.NotFound, "INBOX_NOT_FOUND")
	read.InboxId = "x"
	_, err = client.MarkInboxMessageRead(w.shop, read)
	requireStatus(t, err, codes.NotFound, "INBOX_NOT_FOUND")
	read.Application = "OTHER"
	_, err = client.MarkInboxMessageRead(w.shop, read)
	requireStatus(t, err, codes.NotFound, "APP_NOT_FOUND")
	_, err = client.PostInboxMessage(w.shop, &signetv1.PostInboxMessageRequest{Application: "APP"})
	requireStatus(t, err, codes.InvalidArgument, "PUSH_REQUEST", "user_id", "subject", "summary")
	_, err = client.PostInboxMessage(w.shop, &signetv1.PostInboxMessageRequest{Application: "APP", Type: 9})
	requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "type")
	_, err = client.PostInboxMessage(w.shop, &signetv1.PostInboxMessageRequest{Application: "OTHER", UserId: "jane", Subject: "s", Summary: "s"})
	requireStatus(t, err, codes.NotFound, "APP_NOT_FOUND")
	for _, size := range []int32{-1, 101} {
		_, err = client.ListInboxMessages(w.shop, &signetv1.ListInboxMessagesRequest{Application: "APP", UserId: "jane", PageSize: size})
		requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "page_size")
	}
	_, err = client.ListInboxMessages(w.shop, &signetv1.ListInboxMessagesRequest{Application: "APP", UserId: "jane", PageToken: "x"})
	requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "page_token")
	_, err = client.ListInboxMessages(w.shop, &signetv1.ListInboxMessagesRequest{Application: "APP"})
	requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "user_id")
}

func TestPAAUD01_QueryEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.phone(t)
	client := signetv1.NewAuditServiceClient(w.conn)
	got, err := client.QueryEvents(w.shop, &signetv1.QueryEventsRequest{UserId: "jane"})
	require.NoError(t, err)
	require.Equal(t, "registration_commit", got.GetEvents()[0].GetEventType())
	require.Equal(t, d.ActivationID(), got.GetEvents()[0].GetRegistrationId())
	at := got.GetEvents()[0].GetAt()
	same, err := client.QueryEvents(w.shop, &signetv1.QueryEventsRequest{UserId: "jane", From: at, To: at})
	require.NoError(t, err)
	require.NotEmpty(t, same.GetEvents(), "both bounds are inclusive")
	none, err := client.QueryEvents(w.shop, &signetv1.QueryEventsRequest{UserId: "jane", To: timestamppb.New(time.Now().Add(-time.Hour))})
	require.NoError(t, err)
	require.Empty(t, none.GetEvents())

	_, err = client.QueryEvents(w.shop, &signetv1.QueryEventsRequest{UserId: "joe"})
	requireStatus(t, err, codes.NotFound, "AUDIT_USER")
	_, err = client.QueryEvents(w.shop, &signetv1.QueryEventsRequest{UserId: "jane", From: timestamppb.New(time.Now().Add(time.Hour))})
	requireStatus(t, err, codes.InvalidArgument, "AUDIT_PERIOD")
	_, err = client.QueryEvents(w.shop, &signetv1.QueryEventsRequest{From: &timestamppb.Timestamp{Nanos: -1}, To: &timestamppb.Timestamp{Seconds: 1 << 60}})
	requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "user_id", "from", "to")
}

func TestPAREG_History(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.phone(t)
	client := signetv1.NewRegistrationServiceClient(w.conn)
	_, err := client.ChangeRegistration(w.shop, &signetv1.ChangeRegistrationRequest{
		RegistrationId: d.ActivationID(), Change: signetv1.RegistrationChange_REGISTRATION_CHANGE_BLOCK, BlockReason: "LOST",
	})
	require.NoError(t, err)
	reg, err := client.GetRegistration(w.shop, &signetv1.GetRegistrationRequest{RegistrationId: d.ActivationID()})
	require.NoError(t, err)
	require.Equal(t, "LOST", reg.GetRegistration().GetBlockedReason())
	var types []string
	req := &signetv1.ListEventsRequest{RegistrationId: d.ActivationID(), PageSize: 2}
	for more := true; more; more = req.PageToken != "" {
		page, err := client.ListEvents(w.shop, req)
		require.NoError(t, err)
		require.NotEmpty(t, page.GetEvents())
		for _, e := range page.GetEvents() {
			require.Equal(t, d.ActivationID(), e.GetRegistrationId())
			types = append(types, e.GetEventType())
		}
		req.PageToken = page.GetNextPageToken()
	}
	require.Equal(t, []string{"registration_block", "registration_commit", "registration_exchange", "registration_create"}, types)

	for _, size := range []int32{-1, 1001} {
		_, err = client.ListEvents(w.shop, &signetv1.ListEventsRequest{RegistrationId: d.ActivationID(), PageSize: size})
		requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "page_size")
	}
	_, err = client.ListEvents(w.shop, &signetv1.ListEventsRequest{RegistrationId: d.ActivationID(), PageToken: "x"})
	requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "page_token")
	_, err = client.ChangeRegistration(w.shop, &signetv1.ChangeRegistrationRequest{RegistrationId: d.ActivationID(), Change: signetv1.RegistrationChange_REGISTRATION_CHANGE_REMOVE})
	require.NoError(t, err)
	_, err = client.ListEvents(w.shop, &signetv1.ListEventsRequest{RegistrationId: d.ActivationID()})
	requireStatus(t, err, codes.NotFound, "REGISTRATION_NOT_FOUND")
}

// A code for any device of the application is signed by its master key.
func TestPAOP04_QrOfTheApplication(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.phone(t)
	_, err := w.Operations.CreateTemplate(t.Context(), pgtest.Alpha, operation.Template{
		Name: "pay", Type: "authorize_payment", Data: "A1*A100CZK", Types: []signature.Factor{signature.PossessionKnowledge},
	}, "test")
	require.NoError(t, err)
	client := signetv1.NewOperationServiceClient(w.conn)
	made, err := client.CreateOperation(w.shop, &signetv1.CreateOperationRequest{Order: &signetv1.OperationOrder{UserId: "jane", Template: "pay"}})
	require.NoError(t, err)
	op := made.GetOperation()
	require.Equal(t, "A1*A100CZK", op.GetData())
	require.Equal(t, []signetv1.SignatureType{signetv1.SignatureType_SIGNATURE_TYPE_POSSESSION_KNOWLEDGE}, op.GetSignatureTypes())
	require.Nil(t, op.GetFinishedAt())
	code, err := client.GetOfflineQr(w.shop, &signetv1.GetOfflineQrRequest{OperationId: op.GetOperationId()})
	require.NoError(t, err)
	scanned, err := d.ScanOffline(code.GetData())
	require.NoError(t, err)
	require.False(t, scanned.Personal)
	otp, err := d.SignOffline(scanned.Offline, signature.PossessionKnowledge)
	require.NoError(t, err)
	v, err := client.VerifyOfflineOtp(w.shop, &signetv1.VerifyOfflineOtpRequest{Check: &signetv1.OtpCheck{
		OperationId: op.GetOperationId(), Otp: otp, Nonce: code.GetNonce(), RegistrationId: d.ActivationID(),
	}})
	require.NoError(t, err)
	require.True(t, v.GetVerdict().GetValid())

	_, err = client.GetOfflineQr(w.shop, &signetv1.GetOfflineQrRequest{OperationId: op.GetOperationId()})
	requireStatus(t, err, codes.FailedPrecondition, "OPERATION_STATE_CHANGE")
	made, err = client.CreateOperation(w.shop, &signetv1.CreateOperationRequest{Order: &signetv1.OperationOrder{UserId: "jane", Template: "pay"}})
	require.NoError(t, err)
	id := made.GetOperation().GetOperationId()
	_, err = client.GetOfflineQr(w.shop, &signetv1.GetOfflineQrRequest{OperationId: id, Application: "OTHER"})
	requireStatus(t, err, codes.InvalidArgument, "OPERATION_INVALID", "application")
	_, err = client.GetOfflineQr(w.shop, &signetv1.GetOfflineQrRequest{OperationId: id, Application: "APP", RegistrationId: d.ActivationID()})
	requireStatus(t, err, codes.InvalidArgument, "REQUEST_INVALID", "application")
	_, err = client.CancelOperation(w.shop, &signetv1.CancelOperationRequest{OperationId: id, Reason: "LATE"})
	require.NoError(t, err)
	got, err := client.GetOperation(w.shop, &signetv1.GetOperationRequest{OperationId: id})
	require.NoError(t, err)
	require.Equal(t, "LATE", got.GetOperation().GetReason())
	require.NotNil(t, got.GetOperation().GetFinishedAt())
}

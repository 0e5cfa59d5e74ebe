package grpc_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/signet-hsm/signet/api/internal/apitest"
	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/signature"
)

// guide:begin

// pay asks a user to approve a payment.
func pay(ctx context.Context, conn *grpc.ClientConn, user, password string) (string, error) {
	login := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Basic "+login)
	made, err := signetv1.NewOperationServiceClient(conn).CreateOperation(ctx, &signetv1.CreateOperationRequest{
		Order: &signetv1.OperationOrder{
			UserId: "alice", Template: "payment",
			Parameters: map[string]string{"amount": "100.00", "currency": "CZK", "iban": "CZ5508000000001234567899"},
		},
	})
	if err != nil {
		return "", fmt.Errorf("no operation: %w", err)
	}
	return made.GetOperation().GetOperationId(), nil
}

// guide:end

// The guide's code is this file's, and works.
func TestTheGuidesCode(t *testing.T) {
	t.Parallel()
	own, err := os.ReadFile("guide_test.go")
	require.NoError(t, err)
	_, code, _ := strings.Cut(string(own), "// guide:begin\n\n")
	code, _, _ = strings.Cut(code, "\n// guide:end")
	guide, err := os.ReadFile(filepath.Join(apitest.Root(t), "docs", "powerauth.md"))
	require.NoError(t, err)
	require.Contains(t, string(guide), "```go\n"+code+"```\n")

	w := newWorld(t)
	w.phoneOf(t, "alice")
	_, err = w.Operations.CreateTemplate(t.Context(), pgtest.Alpha, operation.Template{
		Name: "payment", Type: "authorize_payment", Data: "A1*A${amount}${currency}*I${iban}", Types: []signature.Factor{signature.PossessionKnowledge},
	}, "test")
	require.NoError(t, err)
	id, err := pay(t.Context(), w.conn, "shop", w.shopPassword)
	require.NoError(t, err)
	require.Len(t, id, 36)
	_, err = pay(t.Context(), w.conn, "shop", "wrong")
	require.Error(t, err)
}

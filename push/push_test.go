package push_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/push"
)

const operation = "8d2f1c7e-51d6-4b0e-9a39-0b6a0a3f1c11"

var appleToken = strings.Repeat("ab", 32)

func created(user string) outbox.Event {
	return outbox.Event{
		Tenant: pgtest.Alpha, Kind: outbox.OperationCreated, App: "APP", User: user, Operation: operation,
		Data: map[string]any{"name": "authorize_payment", "title": "Approve <payment>", "message": "Pay 100 CZK?", "expires": time.Now().Add(5 * time.Minute).Format(time.RFC3339)},
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	_, err := push.New(push.Config{})
	require.Error(t, err)
	require.False(t, errors.Is(err, fault.ErrUnavailable))
}

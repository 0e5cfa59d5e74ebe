package tokentest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
	"github.com/signet-hsm/signet/tenant"
	"github.com/signet-hsm/signet/token"
)

// Installation is one database and one token with the application APP in both
// twin tenants.
type Installation struct {
	DB     *pgxpool.Pool
	HSM    *hsm.Token
	KEK    hsm.Ref
	Audit  *audit.Log
	Node          // the first one
	URL    string // of the device's endpoints of Node
	Client *http.Client

	Versions map[tenant.ID]app.Version
	Masters  map[tenant.ID][]byte // master public keys, 65 bytes

	tb   testing.TB
	url  string
	kek  *hsm.AEAD
	keys *envelope.Keyring
	skew atomic.Int64
}

// Node is one process: its own caches and connections.
type Node struct {
	Registrations *registration.Registrar
	Tokens        *token.Keeper
}

// New makes one; change may alter the configuration of its registrations.
func New(tb testing.TB, change ...func(*registration.Config)) *Installation {
	tb.Helper()
	ctx := tb.Context()
	in := &Installation{
		tb: tb, url: pgtest.URL(tb), HSM: softhsmtest.New(tb),
		KEK:      hsm.Ref{Tenant: tenant.System.String(), Role: hsm.RoleKEK, Name: "kek"},
		Versions: map[tenant.ID]app.Version{}, Masters: map[tenant.ID][]byte{},
	}
	in.DB = in.Pool()
	_, err := in.HSM.Generate(ctx, in.KEK, hsm.AES256, [16]byte{1})
	require.NoError(tb, err)
	in.kek, err = in.HSM.AEAD(ctx, in.KEK)
	require.NoError(tb, err)
	in.keys = in.keyring(in.DB)
	in.Audit, err = audit.New(audit.Config{DB: in.DB})
	require.NoError(tb, err)
	apps, err := app.New(app.Config{DB: in.DB, HSM: in.HSM, Envelope: in.keyring(in.DB), Audit: in.Audit})
	require.NoError(tb, err)
	for _, t := range []tenant.ID{pgtest.Alpha, pgtest.Beta} {
		a, v, err := apps.Create(ctx, t, app.CreateParams{ID: "APP", Roles: []string{"ROLE"}})
		require.NoError(tb, err)
		in.Versions[t], in.Masters[t] = v, a.MasterPublic
	}
	in.Node = in.NewNode(in.DB, change...)
	server := httptest.NewServer(Handler(in.Node))
	tb.Cleanup(server.Close)
	in.URL, in.Client = server.URL, server.Client()
	return in
}

// Now is the clock of every node and, if a test wants it, of devices.
func (in *Installation) Now() time.Time { return time.Now().Add(time.Duration(in.skew.Load())) }

// Turn sets the clock ahead of the real one.
func (in *Installation) Turn(ahead time.Duration) { in.skew.Store(int64(ahead)) }

// Pool opens connections of their own to the database.
func (in *Installation) Pool() *pgxpool.Pool {
	in.tb.Helper()
	pool, err := pg.Open(in.tb.Context(), in.url, pg.Options{MaxConns: 10})
	require.NoError(in.tb, err)
	in.tb.Cleanup(pool.Close)
	return pool
}

// NewNode makes another process on a pool.
func (in *Installation) NewNode(db *pgxpool.Pool, change ...func(*registration.Config)) Node {
	in.tb.Helper()
	keyring := in.keyring(db)
	apps, err := app.New(app.Config{DB: db, HSM: in.HSM, Envelope: keyring, Audit: in.Audit, Now: in.Now})
	require.NoError(in.tb, err)
	c := registration.Config{DB: db, Apps: apps, Envelope: keyring, Audit: in.Audit, Now: in.Now}
	for _, f := range change {
		f(&c)
	}
	var n Node
	n.Registrations, err = registration.New(c)
	require.NoError(in.tb, err)
	n.Tokens, err = token.New(token.Config{
		DB: db, Registrations: n.Registrations, Roles: apps, Envelope: keyring, Audit: in.Audit, Now: in.Now,
	})
	require.NoError(in.tb, err)
	return n
}

func (in *Installation) keyring(db *pgxpool.Pool) *envelope.Keyring {
	return envelope.New(db, in.kek, envelope.Options{})
}

// OpenTokenSecret unseals a secret as it stands in the database.
func (in *Installation) OpenTokenSecret(ctx context.Context, t tenant.ID, tokenID, owner string, sealed []byte) (secret.Bytes, error) {
	return in.keys.Open(ctx, envelope.Field{Tenant: t, Table: "token", Column: "secret_sealed", Row: tokenID + "/" + owner}, sealed)
}

package ownkey_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/ownkey"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var (
	kek   = hsm.Ref{Tenant: "_system", Role: hsm.RoleKEK, Name: "kek"}
	audit = hsm.Ref{Tenant: "_system", Role: hsm.RoleAudit, Name: "audit"}
)

func row(t *testing.T, db *pgxpool.Pool, ref hsm.Ref) (id []byte, state string) {
	t.Helper()
	require.NoError(t, db.QueryRow(t.Context(), `select key_id, state from own_key where name = $1`, ref.String()).Scan(&id, &state))
	return id, state
}

// The record, the key and the id agree, and a second call changes nothing.
func TestEnsure(t *testing.T) {
	t.Parallel()
	db, token := pgtest.New(t), softhsmtest.New(t)
	m := ownkey.Maker{DB: db, HSM: token}
	for ref, alg := range map[hsm.Ref]hsm.Algorithm{kek: hsm.AES256, audit: hsm.P256} {
		require.NoError(t, m.Ensure(t.Context(), ref, alg))
		first, err := token.Lookup(t.Context(), ref)
		require.NoError(t, err)
		require.NoError(t, m.Ensure(t.Context(), ref, alg))
		again, err := token.Lookup(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, first, again)
		id, state := row(t, db, ref)
		require.Equal(t, first.ID[:], id)
		require.Equal(t, "READY", state)
	}
}

// A key from before there were records is kept.
func TestAKeyWithoutARecordIsRecorded(t *testing.T) {
	t.Parallel()
	db, token := pgtest.New(t), softhsmtest.New(t)
	old, err := token.Generate(t.Context(), kek, hsm.AES256, [16]byte{7})
	require.NoError(t, err)
	require.NoError(t, ownkey.Maker{DB: db, HSM: token}.Ensure(t.Context(), kek, hsm.AES256))
	id, state := row(t, db, kek)
	require.Equal(t, old.ID[:], id)
	require.Equal(t, "READY", state)
}

// Another token, or an old copy of it, gets no new key: it would hide that what the
// old one sealed does not open.
func TestAnotherTokenIsRefused(t *testing.T) {
	t.Parallel()
	db, token, other := pgtest.New(t), softhsmtest.New(t), softhsmtest.New(t)
	require.NoError(t, ownkey.Maker{DB: db, HSM: token}.Ensure(t.Context(), kek, hsm.AES256))
	stranger := ownkey.Maker{DB: db, HSM: other}
	err := stranger.Ensure(t.Context(), kek, hsm.AES256)
	require.ErrorIs(t, err, ownkey.ErrKey)
	require.ErrorContains(t, err, "is not there")
	_, err = other.Lookup(t.Context(), kek)
	require.ErrorIs(t, err, hsm.ErrKeyNotFound)
	_, err = other.Generate(t.Context(), kek, hsm.AES256, [16]byte{9})
	require.NoError(t, err)
	err = stranger.Ensure(t.Context(), kek, hsm.AES256)
	require.ErrorIs(t, err, ownkey.ErrKey)
	require.ErrorContains(t, err, "under another id")
}

// Of many at once one makes the key, and all come back with it.
func TestEnsureAtOnce(t *testing.T) {
	t.Parallel()
	db, token := pgtest.New(t), softhsmtest.New(t)
	var wg sync.WaitGroup
	failures := make(chan error, 8)
	for range cap(failures) {
		wg.Go(func() { failures <- ownkey.Maker{DB: db, HSM: token}.Ensure(t.Context(), audit, hsm.P256) })
	}
	wg.Wait()
	close(failures)
	for err := range failures {
		require.NoError(t, err)
	}
	keys, err := token.Keys(t.Context(), func(hsm.Ref) bool { return true })
	require.NoError(t, err)
	require.Len(t, keys, 1)
}

// refusing is an HSM that makes no key.
type refusing struct {
	ownkey.HSM
	err error
}

func (r refusing) Generate(context.Context, hsm.Ref, hsm.Algorithm, [16]byte) (hsm.KeyInfo, error) {
	return hsm.KeyInfo{}, r.err
}

// What the HSM refuses leaves an intent that the next call takes over at once; one
// that lives is waited for, no longer than the caller has time.
func TestARefusalIsGivenUp(t *testing.T) {
	t.Parallel()
	db, token := pgtest.New(t), softhsmtest.New(t)
	m := ownkey.Maker{DB: db, HSM: token}
	err := ownkey.Maker{DB: db, HSM: refusing{token, hsm.ErrUnsupported}}.Ensure(t.Context(), kek, hsm.AES256)
	require.ErrorIs(t, err, hsm.ErrUnsupported)
	_, state := row(t, db, kek)
	require.Equal(t, "MAKING", state)
	require.NoError(t, m.Ensure(t.Context(), kek, hsm.AES256))

	_, err = db.Exec(t.Context(), `insert into own_key (name, key_id, state, until, created_at) values ($1, $2, 'MAKING', now() + interval '1 hour', now())`,
		audit.String(), make([]byte, 16))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var log bytes.Buffer
	m.Logger = slog.New(slog.NewTextHandler(&log, nil))
	require.ErrorIs(t, m.Ensure(ctx, audit, hsm.P256), fault.ErrUnavailable)
	require.Contains(t, log.String(), "waiting")
	_, err = token.Lookup(t.Context(), audit)
	require.ErrorIs(t, err, hsm.ErrKeyNotFound)
}

// late has its lease taken by another while it makes the key.
type late struct {
	ownkey.HSM
	meanwhile func()
}

func (l late) Generate(ctx context.Context, ref hsm.Ref, alg hsm.Algorithm, id [16]byte) (hsm.KeyInfo, error) {
	l.meanwhile()
	return l.HSM.Generate(ctx, ref, alg, id)
}

// Who comes back after another took over does not put its key in the place of the
// other's.
func TestWhoIsLateDoesNotFinish(t *testing.T) {
	t.Parallel()
	db, token := pgtest.New(t), softhsmtest.New(t)
	other := ownkey.Maker{DB: db, HSM: token}
	err := ownkey.Maker{DB: db, HSM: late{token, func() {
		_, err := db.Exec(t.Context(), `update own_key set until = now()`)
		require.NoError(t, err)
		require.NoError(t, other.Ensure(t.Context(), audit, hsm.P256))
	}}}.Ensure(t.Context(), audit, hsm.P256)
	require.ErrorIs(t, err, hsm.ErrExists)
	require.NoError(t, other.Ensure(t.Context(), audit, hsm.P256))
}

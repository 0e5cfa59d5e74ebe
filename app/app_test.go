package app_test

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
	"github.com/signet-hsm/signet/tenant"
)

var (
	alpha = tenant.MustParse("alpha")
	beta  = tenant.MustParse("beta")
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// bench is one database, one token and a clock that a test may turn.
type bench struct {
	db    *pgxpool.Pool
	hsm   *hsm.Token
	keys  *envelope.Keyring
	audit *audit.Log
	skew  atomic.Int64
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{db: pgtest.New(t), hsm: softhsmtest.New(t)}
	ref := hsm.Ref{Tenant: tenant.System.String(), Role: hsm.RoleKEK, Name: "kek"}
	_, err := b.hsm.Generate(t.Context(), ref, hsm.AES256, [16]byte{1})
	require.NoError(t, err)
	kek, err := b.hsm.AEAD(t.Context(), ref)
	require.NoError(t, err)
	b.keys = envelope.New(b.db, kek, envelope.Options{})
	b.audit, err = audit.New(audit.Config{DB: b.db})
	require.NoError(t, err)
	return b
}

func (b *bench) now() time.Time { return time.Now().Add(time.Duration(b.skew.Load())) }

func (b *bench) registry(t *testing.T) *app.Registry {
	t.Helper()
	r, err := app.New(app.Config{
		DB: b.db, HSM: b.hsm, Envelope: b.keys, Audit: b.audit, Now: b.now, Metrics: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	return r
}

func TestPAADM01_CreateMakesKeysAndSecrets(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newBench(t)
	r := b.registry(t)
	a, v, err := r.Create(ctx, alpha, app.CreateParams{ID: "MY_APP_01", Roles: []string{"ROLE1", "ROLE2"}, Actor: "admin"})
	require.NoError(t, err)
	require.Equal(t, []string{"ROLE1", "ROLE2"}, a.Roles)
	require.Equal(t, app.DefaultVersion, v.Name)
	raw, err := base64.StdEncoding.DecodeString(string(v.Secret.Reveal()))
	require.NoError(t, err)
	require.Len(t, raw, 16)
	require.NotEqual(t, [16]byte(raw), v.Key)

	got, err := r.Get(ctx, alpha, "MY_APP_01")
	require.NoError(t, err)
	require.Equal(t, a, got)
	found, err := r.ByKey(ctx, v.Key)
	require.NoError(t, err)
	all, err := r.Versions(ctx, v.Tenant, v.App)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, v.Secret.Reveal(), all[0].Secret.Reveal())
	require.Equal(t, v.Key, all[0].Key)
	none, err := r.Versions(ctx, tenant.MustParse("beta"), v.App)
	require.NoError(t, err)
	require.Empty(t, none)
	require.True(t, found.Secret.Equal(v.Secret.Reveal()))
	require.Equal(t, []any{alpha, "MY_APP_01", true}, []any{found.Tenant, found.App, found.Supported})

	master, err := r.Master(ctx, alpha, "MY_APP_01")
	require.NoError(t, err)
	require.Equal(t, a.MasterPublic, master.Public)
	der, err := master.Sign(ctx, []byte("ABCDE"))
	require.NoError(t, err)
	digest := sha256.Sum256([]byte("ABCDE"))
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), master.Public)
	require.NoError(t, err)
	require.True(t, ecdsa.VerifyASN1(pub, digest[:], der))

	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(t, err)
	z, err := master.ECDH(ctx, peer.PublicKey())
	require.NoError(t, err)
	ours, err := ecdh.P256().NewPublicKey(master.Public)
	require.NoError(t, err)
	want, err := peer.ECDH(ours)
	require.NoError(t, err)
	require.Equal(t, want, z)

	events, err := b.audit.List(ctx, alpha, audit.Filter{})
	require.NoError(t, err)
	require.Len(t, events, 1)
	require.Equal(t, []string{"app.create", "admin", "MY_APP_01", "ok"},
		[]string{events[0].Action, events[0].Actor, events[0].Subject, events[0].Outcome})
	var row string
	require.NoError(t, b.db.QueryRow(ctx, `select (select string_agg(a::text, ' ') from audit_event a) ||
		(select string_agg(v::text, ' ') from app_version v)`).Scan(&row))
	require.NotContains(t, row, string(v.Secret.Reveal()), "the secret is nowhere in clear")
}

func TestPAADM01_SameNameInTwoTenants(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newBench(t)
	r := b.registry(t)
	one, v1, err := r.Create(ctx, alpha, app.CreateParams{ID: "APP"})
	require.NoError(t, err)
	_, err = r.Get(ctx, beta, "APP")
	require.ErrorIs(t, err, app.ErrNotFound)
	_, err = r.Master(ctx, beta, "APP")
	require.ErrorIs(t, err, app.ErrNotFound)

	two, v2, err := r.Create(ctx, beta, app.CreateParams{ID: "APP", Roles: []string{"X"}})
	require.NoError(t, err)
	require.NotEqual(t, one.MasterPublic, two.MasterPublic)
	require.NotEqual(t, v1.Key, v2.Key)
	found, err := r.ByKey(ctx, v2.Key)
	require.NoError(t, err)
	require.Equal(t, beta, found.Tenant)
	roles, err := r.Roles(ctx, beta, "APP")
	require.NoError(t, err)
	require.Equal(t, []string{"X"}, roles)

	// A secret moved to the twin's row does not open there.
	_, err = b.db.Exec(ctx, `update app_version set secret_sealed =
		(select secret_sealed from app_version where tenant_id = 'alpha') where tenant_id = 'beta'`)
	require.NoError(t, err)
	_, err = b.registry(t).ByKey(ctx, v2.Key)
	require.ErrorIs(t, err, envelope.ErrCorrupt)
}

func TestPAADM01_Refusals(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newBench(t)
	r := b.registry(t)
	for name, p := range map[string]app.CreateParams{
		"no id":          {},
		"long id":        {ID: strings.Repeat("ä", 256)},
		"NUL":            {ID: "a\x00b"},
		"not UTF-8":      {ID: "\xff"},
		"empty role":     {ID: "A", Roles: []string{""}},
		"repeated role":  {ID: "A", Roles: []string{"R", "R"}},
		"too many roles": {ID: "A", Roles: make([]string, app.MaxRoles+1)},
	} {
		_, _, err := r.Create(ctx, alpha, p)
		require.ErrorIs(t, err, app.ErrInvalid, name)
		require.NotEmpty(t, fault.Of(err).Violations, name)
	}
	var n int
	require.NoError(t, b.db.QueryRow(ctx, `select count(*) from app`).Scan(&n))
	require.Zero(t, n)

	_, _, err := r.Create(ctx, alpha, app.CreateParams{ID: "A"})
	require.NoError(t, err)
	_, _, err = r.Create(ctx, alpha, app.CreateParams{ID: "A"})
	require.ErrorIs(t, err, app.ErrExists)
	_, err = r.ByKey(ctx, [16]byte{9})
	require.ErrorIs(t, err, app.ErrNotFound)

	over, cancel := context.WithCancel(ctx)
	cancel()
	_, err = r.Get(over, alpha, "A")
	require.ErrorIs(t, err, fault.ErrUnavailable)
	_, err = r.ByKey(over, [16]byte{8})
	require.ErrorIs(t, err, fault.ErrUnavailable)
}

// Ids that no HSM label can hold, and pairs that a careless mapping would merge.
func TestPAADM01_AnyNameHasItsOwnKey(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newBench(t)
	r := b.registry(t)
	seen := map[string]string{}
	for _, id := range []string{
		"My App", "a/b", "a.b", "ä", strings.Repeat("x", 255), strings.Repeat("x", 64), "=", "0", "../0",
		"=" + strings.Repeat("0", 64),
	} {
		a, _, err := r.Create(ctx, alpha, app.CreateParams{ID: id})
		require.NoError(t, err, id)
		require.Empty(t, seen[string(a.MasterPublic)], id)
		seen[string(a.MasterPublic)] = id
		_, err = r.Master(ctx, alpha, id)
		require.NoError(t, err, id)
	}
}

func TestPAADM01_ACrashedCreateIsRepeated(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newBench(t)
	ref := hsm.Ref{Tenant: "alpha", Role: hsm.RoleMaster, Name: "APP"}
	intent := uuid.New()
	write := func(at time.Time) {
		_, err := b.db.Exec(ctx, `insert into app (tenant_id, id, state, roles, master_id, created_at)
			values ('alpha', 'APP', 'CREATING', '{}', $1, $2)`, intent, at)
		require.NoError(t, err)
	}
	r := b.registry(t)

	t.Run("before the key", func(t *testing.T) {
		write(time.Now())
		_, err := r.Get(ctx, alpha, "APP")
		require.ErrorIs(t, err, app.ErrNotFound, "an application that is being made does not exist yet")
		a, _, err := r.Create(ctx, alpha, app.CreateParams{ID: "APP", Roles: []string{"R"}})
		require.NoError(t, err)
		require.Equal(t, []string{"R"}, a.Roles)
		info, err := b.hsm.Lookup(ctx, ref)
		require.NoError(t, err)
		require.Equal(t, [16]byte(intent), info.ID)
	})
	clean := func() {
		_, err := b.db.Exec(ctx, `delete from app_version`)
		require.NoError(t, err)
		_, err = b.db.Exec(ctx, `delete from app`)
		require.NoError(t, err)
	}
	t.Run("after the key", func(t *testing.T) {
		clean()
		before, err := b.hsm.Lookup(ctx, ref)
		require.NoError(t, err)
		write(time.Now())
		_, _, err = r.Create(ctx, alpha, app.CreateParams{ID: "APP"})
		require.NoError(t, err)
		after, err := b.hsm.Lookup(ctx, ref)
		require.NoError(t, err)
		require.Equal(t, before, after, "the key of the intent is adopted")
		_, err = r.Master(ctx, alpha, "APP")
		require.NoError(t, err)
	})
	t.Run("a stranger's key", func(t *testing.T) {
		clean()
		_, _, err := r.Create(ctx, alpha, app.CreateParams{ID: "APP"})
		require.ErrorIs(t, err, app.ErrMaster)
		require.Equal(t, fault.Internal, fault.KindOf(err))
	})
}

func TestPAADM01_ConcurrentCreatesMakeOne(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newBench(t)
	nodes := []*app.Registry{b.registry(t), b.registry(t)}
	var (
		wg   sync.WaitGroup
		made atomic.Int32
	)
	for i := range 8 {
		wg.Go(func() {
			_, _, err := nodes[i%2].Create(ctx, alpha, app.CreateParams{ID: "APP"})
			if err == nil {
				made.Add(1)
				return
			}
			// A loser may have met the key while it was half made.
			require.True(t, fault.KindOf(err) == fault.Conflict || fault.KindOf(err) == fault.Unavailable, "%v", err)
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, made.Load())
	_, err := nodes[0].Master(ctx, alpha, "APP")
	require.NoError(t, err)
	events, err := b.audit.List(ctx, alpha, audit.Filter{})
	require.NoError(t, err)
	require.Len(t, events, 1)
}

func TestTheCacheIsShortLivedAlsoForUnknownKeys(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newBench(t)
	r, other := b.registry(t), b.registry(t)
	_, err := r.Roles(ctx, alpha, "APP")
	require.ErrorIs(t, err, app.ErrNotFound)
	_, v, err := other.Create(ctx, alpha, app.CreateParams{ID: "APP", Roles: []string{"R"}})
	require.NoError(t, err)
	_, err = r.Roles(ctx, alpha, "APP")
	require.ErrorIs(t, err, app.ErrNotFound, "not asked again within the TTL")
	_, err = r.ByKey(ctx, v.Key)
	require.NoError(t, err)
	_, err = b.db.Exec(ctx, `update app_version set supported = false`)
	require.NoError(t, err)
	got, err := r.ByKey(ctx, v.Key)
	require.NoError(t, err)
	require.True(t, got.Supported)

	b.skew.Store(int64(5 * time.Second))
	roles, err := r.Roles(ctx, alpha, "APP")
	require.NoError(t, err)
	require.Equal(t, []string{"R"}, roles)
	got, err = r.ByKey(ctx, v.Key)
	require.NoError(t, err)
	require.False(t, got.Supported)
}

func TestASwappedMasterKeyIsNoticed(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newBench(t)
	r := b.registry(t)
	_, _, err := r.Create(ctx, alpha, app.CreateParams{ID: "APP"})
	require.NoError(t, err)
	ref := hsm.Ref{Tenant: "alpha", Role: hsm.RoleMaster, Name: "APP"}
	require.NoError(t, b.hsm.Destroy(ctx, ref))
	_, err = r.Master(ctx, alpha, "APP")
	require.ErrorIs(t, err, app.ErrMaster, "a lost one too")
	require.Equal(t, fault.Internal, fault.KindOf(err))
	_, err = b.hsm.Generate(ctx, ref, hsm.P256, uuid.New())
	require.NoError(t, err)
	_, err = r.Master(ctx, alpha, "APP")
	require.ErrorIs(t, err, app.ErrMaster)
}

func TestConfig(t *testing.T) {
	t.Parallel()
	_, err := app.New(app.Config{})
	require.Error(t, err)
}

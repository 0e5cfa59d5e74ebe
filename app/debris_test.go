package app_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
)

// debris makes the token say that the key of an intent exists although it is not
// to be found, as it does of half a pair that a crash left: another object has
// its id. It returns the intent.
func (b *bench) debris(t *testing.T, name string) uuid.UUID {
	t.Helper()
	intent := uuid.New()
	_, err := b.hsm.Generate(t.Context(), hsm.Ref{Tenant: "alpha", Role: hsm.RoleMaster, Name: name}, hsm.P256, intent)
	require.NoError(t, err)
	return intent
}

// What a Create left behind is not touched while its maker may still be at work;
// after that a new intent takes its place, so that the old one can not finish.
func TestPAADM01_ACreateReplacesWhatACrashLeft(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newBench(t)
	r := b.registry(t)
	intent := b.debris(t, "debris")
	_, err := b.db.Exec(ctx, `insert into app (tenant_id, id, state, roles, master_id, created_at)
		values ('alpha', 'APP', 'CREATING', '{}', $1, $2)`, intent, b.now())
	require.NoError(t, err)

	_, _, err = r.Create(ctx, alpha, app.CreateParams{ID: "APP"})
	require.ErrorIs(t, err, fault.ErrUnavailable, "somebody may be making it")
	_, err = r.Get(ctx, alpha, "APP")
	require.ErrorIs(t, err, app.ErrNotFound)

	b.skew.Store(int64(61 * time.Second))
	a, v, err := r.Create(ctx, alpha, app.CreateParams{ID: "APP", Roles: []string{"R"}})
	require.NoError(t, err)
	require.Equal(t, []string{"R"}, a.Roles)
	require.Equal(t, "APP", v.App)
	info, err := b.hsm.Lookup(ctx, hsm.Ref{Tenant: "alpha", Role: hsm.RoleMaster, Name: "APP"})
	require.NoError(t, err)
	require.NotEqual(t, [16]byte(intent), info.ID)
	var stored uuid.UUID
	require.NoError(t, b.db.QueryRow(ctx, `select master_id from app where id = 'APP' and state = 'READY'`).Scan(&stored))
	require.Equal(t, info.ID, [16]byte(stored))
	m, err := r.Master(ctx, alpha, "APP")
	require.NoError(t, err)
	require.Equal(t, a.MasterPublic, m.Public)
	_, _, err = r.Create(ctx, alpha, app.CreateParams{ID: "APP"})
	require.ErrorIs(t, err, app.ErrExists)
}

// A rotation does the same with the generation that was begun; the application
// uses its old key until then.
func TestARotationReplacesWhatACrashLeft(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newBench(t)
	r := b.registry(t)
	b.create(t, r)
	intent := b.debris(t, "debris")
	_, err := b.db.Exec(ctx, `insert into app_master (tenant_id, app_id, generation, state, key_id, created_at)
		values ('alpha', 'APP', 1, 'CREATING', $1, $2)`, intent, b.now())
	require.NoError(t, err)
	p := app.RotateParams{App: "APP", Actor: "admin"}

	_, err = r.RotateMaster(ctx, alpha, p)
	require.ErrorIs(t, err, fault.ErrUnavailable, "somebody may be making it")
	a, err := r.Get(ctx, alpha, "APP")
	require.NoError(t, err)
	require.Zero(t, a.MasterGeneration)

	b.skew.Store(int64(61 * time.Second))
	a, err = r.RotateMaster(ctx, alpha, p)
	require.NoError(t, err)
	require.Equal(t, 1, a.MasterGeneration)
	info, err := b.hsm.Lookup(ctx, hsm.Ref{Tenant: "alpha", Role: hsm.RoleMaster, Name: "APP", Generation: 1})
	require.NoError(t, err)
	require.NotEqual(t, [16]byte(intent), info.ID)
	for _, g := range []int{0, 1} {
		_, err = r.MasterGeneration(ctx, alpha, "APP", g)
		require.NoError(t, err, "generation %d", g)
	}
	require.Equal(t, []string{"app.create", "app.master.rotate"}, b.actions(t), "one rotation, whatever it took")
}

// What can not be an id is nobody's, and no outage of the database.
func TestIDsThatCanNotBe(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newBench(t)
	r := b.registry(t)
	b.create(t, r)
	for _, id := range []string{"", "A\x00PP", "\xff", string(make([]byte, 300))} {
		_, err := r.Get(ctx, alpha, id)
		require.ErrorIs(t, err, app.ErrNotFound, "%q", id)
		_, err = r.Detail(ctx, alpha, id, "")
		require.ErrorIs(t, err, app.ErrNotFound, "%q", id)
		require.ErrorIs(t, r.AddRoles(ctx, alpha, app.RoleParams{App: id, Roles: []string{"R"}}), app.ErrNotFound, "%q", id)
		require.ErrorIs(t, r.Unsupport(ctx, alpha, app.VersionParams{App: id, Name: "default"}), app.ErrNotFound, "%q", id)
		_, err = r.RotateMaster(ctx, alpha, app.RotateParams{App: id})
		require.ErrorIs(t, err, app.ErrNotFound, "%q", id)
		_, err = r.Detail(ctx, alpha, "APP", id+"x")
		require.ErrorIs(t, err, app.ErrVersion, "%q", id)
	}
}

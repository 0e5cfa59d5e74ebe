package app_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
)

// actions are the events of alpha, oldest first.
func (b *bench) actions(t *testing.T) (list []string) {
	t.Helper()
	events, err := b.audit.List(t.Context(), alpha, audit.Filter{})
	require.NoError(t, err)
	for _, e := range events {
		require.Equal(t, "APP", e.Subject)
		require.Equal(t, "APP", e.AppID)
		require.Equal(t, "admin", e.Actor)
		list = append([]string{e.Action}, list...)
	}
	return list
}

func (b *bench) create(t *testing.T, r *app.Registry) app.Version {
	t.Helper()
	_, v, err := r.Create(t.Context(), alpha, app.CreateParams{ID: "APP", Roles: []string{"R1"}, Actor: "admin"})
	require.NoError(t, err)
	return v
}

func TestPAADM02_List(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newBench(t)
	r := b.registry(t)
	list, err := r.List(ctx, alpha)
	require.NoError(t, err)
	require.Empty(t, list)
	for _, id := range []string{"b", "a", "C"} {
		_, _, err := r.Create(ctx, alpha, app.CreateParams{ID: id, Roles: []string{id}})
		require.NoError(t, err)
	}
	_, _, err = r.Create(ctx, beta, app.CreateParams{ID: "z"})
	require.NoError(t, err)
	_, err = b.db.Exec(ctx, `insert into app (tenant_id, id, state, roles, master_id, created_at) values ('alpha', 'half', 'CREATING', '{}', $1, now())`, uuid.New())
	require.NoError(t, err)
	list, err = r.List(ctx, alpha)
	require.NoError(t, err)
	require.Len(t, list, 3)
	for _, a := range list {
		require.Equal(t, []string{a.ID}, a.Roles)
		got, err := r.Get(ctx, alpha, a.ID)
		require.NoError(t, err)
		require.Equal(t, got, a)
	}
}

func TestPAADM03_DetailAndVersions(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newBench(t)
	r := b.registry(t)
	first := b.create(t, r)
	p := func(name string) app.VersionParams {
		return app.VersionParams{App: "APP", Name: name, Actor: "admin"}
	}
	d, err := r.Detail(ctx, alpha, "APP", "")
	require.NoError(t, err)
	require.Equal(t, first.Key, d.Version.Key)
	require.Equal(t, first.Secret.Reveal(), d.Version.Secret.Reveal())
	require.Equal(t, d.Application.MasterPublic, d.MasterPublic)

	second, err := r.CreateVersion(ctx, alpha, p("2.0"))
	require.NoError(t, err)
	require.NotEqual(t, first.Key, second.Key)
	require.False(t, second.Secret.Equal(first.Secret.Reveal()))
	found, err := r.ByKey(ctx, second.Key)
	require.NoError(t, err)
	require.True(t, found.Secret.Equal(second.Secret.Reveal()))
	d, err = r.Detail(ctx, alpha, "APP", "")
	require.NoError(t, err)
	require.Equal(t, "2.0", d.Version.Name, "the newest")
	d, err = r.Detail(ctx, alpha, "APP", app.DefaultVersion)
	require.NoError(t, err)
	require.Equal(t, first.Key, d.Version.Key)

	// Called back: seen here at once, also by a cache that knew better.
	require.NoError(t, r.Unsupport(ctx, alpha, p("2.0")))
	require.NoError(t, r.Unsupport(ctx, alpha, p("2.0")))
	found, err = r.ByKey(ctx, second.Key)
	require.NoError(t, err)
	require.False(t, found.Supported)
	_, err = r.Detail(ctx, alpha, "APP", "2.0")
	require.ErrorIs(t, err, app.ErrVersion)
	require.ErrorContains(t, err, "No enabled application version was found")
	d, err = r.Detail(ctx, alpha, "APP", "")
	require.NoError(t, err)
	require.Equal(t, app.DefaultVersion, d.Version.Name)
	require.NoError(t, r.Support(ctx, alpha, p("2.0")))
	found, err = r.ByKey(ctx, second.Key)
	require.NoError(t, err)
	require.True(t, found.Supported)
	require.Equal(t, []string{"app.create", "app.version.create", "app.version.unsupport", "app.version.support"}, b.actions(t))

	_, err = r.CreateVersion(ctx, alpha, p("2.0"))
	require.ErrorIs(t, err, app.ErrVersionExists)
	for _, bad := range []string{"", "a\x00", strings.Repeat("v", 256)} {
		_, err = r.CreateVersion(ctx, alpha, p(bad))
		require.ErrorIs(t, err, app.ErrInvalid)
	}
	_, err = r.CreateVersion(ctx, beta, p("2.0"))
	require.ErrorIs(t, err, app.ErrNotFound)
	require.ErrorIs(t, r.Unsupport(ctx, alpha, p("3.0")), app.ErrVersion)
	require.ErrorIs(t, r.Unsupport(ctx, beta, p("2.0")), app.ErrNotFound)
	_, err = r.Detail(ctx, alpha, "APP", "3.0")
	require.ErrorIs(t, err, app.ErrVersion)
	_, err = r.Detail(ctx, beta, "APP", "")
	require.ErrorIs(t, err, app.ErrNotFound)
	require.Len(t, b.actions(t), 4, "nothing is recorded of what did not happen")
}

func TestPAADM04_AddRoles_PAADM05_RemoveRoles(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newBench(t)
	r := b.registry(t)
	b.create(t, r)
	roles := func() []string {
		list, err := r.Roles(ctx, alpha, "APP")
		require.NoError(t, err)
		return list
	}
	p := func(list ...string) app.RoleParams { return app.RoleParams{App: "APP", Roles: list, Actor: "admin"} }
	require.Equal(t, []string{"R1"}, roles())
	require.NoError(t, r.AddRoles(ctx, alpha, p("R2", "R1", "R2", "R3")))
	require.Equal(t, []string{"R1", "R2", "R3"}, roles())
	require.NoError(t, r.AddRoles(ctx, alpha, p("R2")))
	require.NoError(t, r.AddRoles(ctx, alpha, p()))
	require.NoError(t, r.RemoveRoles(ctx, alpha, p("R1", "unknown")))
	require.Equal(t, []string{"R2", "R3"}, roles())
	require.NoError(t, r.RemoveRoles(ctx, alpha, p("unknown")))
	require.NoError(t, r.RemoveRoles(ctx, alpha, p("R3", "R2")))
	require.Empty(t, roles())
	require.Equal(t, []string{"app.create", "app.roles.add", "app.roles.remove", "app.roles.remove"}, b.actions(t))

	for _, change := range []func(app.RoleParams) error{
		func(p app.RoleParams) error { return r.AddRoles(ctx, alpha, p) },
		func(p app.RoleParams) error { return r.RemoveRoles(ctx, alpha, p) },
	} {
		require.ErrorIs(t, change(p("")), app.ErrInvalid)
		require.ErrorIs(t, change(p("a\x00")), app.ErrInvalid)
		require.ErrorIs(t, change(p(make([]string, app.MaxRoles+1)...)), app.ErrInvalid)
		require.ErrorIs(t, change(app.RoleParams{App: "OTHER", Roles: []string{"R"}}), app.ErrNotFound)
	}
	require.ErrorIs(t, r.AddRoles(ctx, beta, p("R")), app.ErrNotFound)
	many := make([]string, app.MaxRoles)
	for i := range many {
		many[i] = fmt.Sprint("M", i)
	}
	require.NoError(t, r.AddRoles(ctx, alpha, p(many...)))
	require.ErrorIs(t, r.AddRoles(ctx, alpha, p("one more")), app.ErrInvalid)
}

func TestPAADM04_NoChangeIsLost(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newBench(t)
	nodes := []*app.Registry{b.registry(t), b.registry(t)}
	b.create(t, nodes[0])
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			err := nodes[i%2].AddRoles(ctx, alpha, app.RoleParams{App: "APP", Roles: []string{fmt.Sprint("N", i)}, Actor: "admin"})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	a, err := nodes[0].Get(ctx, alpha, "APP")
	require.NoError(t, err)
	require.Len(t, a.Roles, 17)
	require.Len(t, b.actions(t), 17)
}

func TestMasterRotationOverlaps(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newBench(t)
	r := b.registry(t)
	old := b.create(t, r)
	before, err := r.Master(ctx, alpha, "APP")
	require.NoError(t, err)

	a, err := r.RotateMaster(ctx, alpha, app.RotateParams{App: "APP", Actor: "admin"})
	require.NoError(t, err)
	require.Equal(t, 1, a.MasterGeneration)
	require.NotEqual(t, before.Public, a.MasterPublic)
	now, err := r.Master(ctx, alpha, "APP")
	require.NoError(t, err)
	require.Equal(t, a.MasterPublic, now.Public, "the newest signs, here at once")

	// A phone with the old version still reaches us with the key it carries.
	v, err := r.ByKey(ctx, old.Key)
	require.NoError(t, err)
	m, err := r.MasterOf(ctx, v)
	require.NoError(t, err)
	require.Equal(t, before.Public, m.Public)
	phone, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(t, err)
	carried, err := ecdh.P256().NewPublicKey(before.Public)
	require.NoError(t, err)
	want, err := phone.ECDH(carried)
	require.NoError(t, err)
	got, err := m.ECDH(ctx, phone.PublicKey())
	require.NoError(t, err)
	require.Equal(t, want, got)

	fresh, err := r.CreateVersion(ctx, alpha, app.VersionParams{App: "APP", Name: "2", Actor: "admin"})
	require.NoError(t, err)
	require.Equal(t, 1, fresh.MasterGeneration)
	m, err = r.MasterOf(ctx, fresh)
	require.NoError(t, err)
	require.Equal(t, now.Public, m.Public)
	for name, public := range map[string][]byte{app.DefaultVersion: before.Public, "2": now.Public} {
		d, err := r.Detail(ctx, alpha, "APP", name)
		require.NoError(t, err)
		require.Equal(t, public, d.MasterPublic)
		require.Equal(t, now.Public, d.Application.MasterPublic)
	}
	require.Equal(t, []string{"app.create", "app.master.rotate", "app.version.create"}, b.actions(t))

	_, err = r.MasterGeneration(ctx, alpha, "APP", 2)
	require.ErrorIs(t, err, app.ErrNotFound)
	_, err = r.MasterGeneration(ctx, beta, "APP", 0)
	require.ErrorIs(t, err, app.ErrNotFound)
	_, err = r.RotateMaster(ctx, beta, app.RotateParams{App: "APP"})
	require.ErrorIs(t, err, app.ErrNotFound)
	a, err = r.RotateMaster(ctx, alpha, app.RotateParams{App: "APP", Actor: "admin"})
	require.NoError(t, err)
	require.Equal(t, 2, a.MasterGeneration)
	_, err = r.MasterGeneration(ctx, alpha, "APP", 2)
	require.NoError(t, err, "the answer of a moment ago is forgotten")
}

func TestACrashedRotationIsRepeated(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newBench(t)
	r := b.registry(t)
	b.create(t, r)
	begin := func(generation int) uuid.UUID {
		id := uuid.New()
		_, err := b.db.Exec(ctx, `insert into app_master (tenant_id, app_id, generation, state, key_id, created_at)
			values ('alpha', 'APP', $1, 'CREATING', $2, now())`, generation, id)
		require.NoError(t, err)
		return id
	}
	ref := func(generation int) hsm.Ref {
		return hsm.Ref{Tenant: "alpha", Role: hsm.RoleMaster, Name: "APP", Generation: generation}
	}
	p := app.RotateParams{App: "APP", Actor: "admin"}

	id := begin(1) // before the key
	a, err := r.Get(ctx, alpha, "APP")
	require.NoError(t, err)
	require.Zero(t, a.MasterGeneration, "a key that is being made is not used")
	a, err = r.RotateMaster(ctx, alpha, p)
	require.NoError(t, err)
	require.Equal(t, 1, a.MasterGeneration)
	info, err := b.hsm.Lookup(ctx, ref(1))
	require.NoError(t, err)
	require.Equal(t, [16]byte(id), info.ID)

	id = begin(2) // after it
	made, err := b.hsm.Generate(ctx, ref(2), hsm.P256, id)
	require.NoError(t, err)
	_, err = r.RotateMaster(ctx, alpha, p)
	require.NoError(t, err)
	m, err := r.Master(ctx, alpha, "APP")
	require.NoError(t, err)
	info, err = b.hsm.Lookup(ctx, ref(2))
	require.NoError(t, err)
	require.Equal(t, made, info)
	require.Len(t, m.Public, 65)

	begin(3) // a stranger's key in the place
	_, err = b.hsm.Generate(ctx, ref(3), hsm.P256, uuid.New())
	require.NoError(t, err)
	_, err = r.RotateMaster(ctx, alpha, p)
	require.ErrorIs(t, err, app.ErrMaster)
	require.Equal(t, fault.Internal, fault.KindOf(err))
	m2, err := r.Master(ctx, alpha, "APP")
	require.NoError(t, err)
	require.Equal(t, m.Public, m2.Public)
}

func TestConcurrentRotations(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newBench(t)
	nodes := []*app.Registry{b.registry(t), b.registry(t)}
	b.create(t, nodes[0])
	var (
		wg   sync.WaitGroup
		made atomic.Int32
	)
	for i := range 6 {
		wg.Go(func() {
			_, err := nodes[i%2].RotateMaster(ctx, alpha, app.RotateParams{App: "APP", Actor: "admin"})
			if err == nil {
				made.Add(1)
			} else if k := fault.KindOf(err); k != fault.Conflict && k != fault.Unavailable {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	a, err := nodes[0].Get(ctx, alpha, "APP")
	require.NoError(t, err)
	require.Positive(t, made.Load())
	require.EqualValues(t, made.Load(), a.MasterGeneration, "one event and one generation for each that succeeded")
	require.Len(t, b.actions(t), 1+a.MasterGeneration)
	b.skew.Store(int64(10 * time.Second))
	for g := range a.MasterGeneration + 1 {
		_, err := nodes[1].MasterGeneration(ctx, alpha, "APP", g)
		require.NoError(t, err)
	}
}

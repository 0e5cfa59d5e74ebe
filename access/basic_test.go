package access_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/tenant"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// sealer stands for the keyring: it keeps what it sealed and can be out. The
// keyring itself is tested where it lives.
type sealer struct {
	mu    sync.Mutex
	blobs map[string][]byte
	opens atomic.Int64
	out   atomic.Bool
}

func (s *sealer) Seal(_ context.Context, f envelope.Field, plain []byte) ([]byte, error) {
	if s.out.Load() {
		return nil, fault.ErrUnavailable
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := rand.Text()
	s.blobs[id+f.Tenant.String()+f.Table+f.Column+f.Row] = append([]byte(nil), plain...)
	return []byte(id), nil
}

func (s *sealer) Open(_ context.Context, f envelope.Field, blob []byte) (secret.Bytes, error) {
	s.opens.Add(1)
	if s.out.Load() {
		return secret.Bytes{}, fault.ErrUnavailable
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	plain, ok := s.blobs[string(blob)+f.Tenant.String()+f.Table+f.Column+f.Row]
	if !ok {
		return secret.Bytes{}, envelope.ErrCorrupt
	}
	return secret.New(append([]byte(nil), plain...)), nil
}

// counted counts statements and can be out.
type counted struct {
	*pgxpool.Pool
	reads atomic.Int64
	out   atomic.Bool
}

type failedRow struct{}

func (failedRow) Scan(...any) error { return errors.New("connection refused") }

func (c *counted) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	c.reads.Add(1)
	if c.out.Load() {
		return failedRow{}
	}
	return c.Pool.QueryRow(ctx, sql, args...)
}

type bench struct {
	db     *counted
	sealer *sealer
	clock  *clock
}

func setup(t *testing.T) *bench {
	return &bench{db: &counted{Pool: pgtest.New(t)}, sealer: &sealer{blobs: map[string][]byte{}}, clock: &clock{}}
}

// node is one process; several share the bench.
func (s *bench) node(t *testing.T) *access.Basic {
	b, err := access.NewBasic(access.BasicConfig{DB: s.db, Sealer: s.sealer, Now: s.clock.now})
	require.NoError(t, err)
	return b
}

func integration(name string, apps ...string) access.NewCredential {
	return access.NewCredential{Username: name, Role: access.PAIntegration, Apps: apps}
}

func TestBasicLifecycle(t *testing.T) {
	t.Parallel()
	s := setup(t)
	b, ctx := s.node(t), t.Context()
	password, err := b.Create(ctx, alpha, integration("shop", "APP2", "APP1", "APP2"))
	require.NoError(t, err)
	raw, err := base64.RawURLEncoding.DecodeString(string(password.Reveal()))
	require.NoError(t, err)
	require.Len(t, raw, 32)

	p, err := b.Authenticate(ctx, "shop", string(password.Reveal()))
	require.NoError(t, err)
	require.Equal(t, access.Principal{
		Tenant: alpha, Name: "shop", Privileges: access.Any(access.PAIntegration), Apps: []string{"APP1", "APP2"},
	}, p)

	require.NoError(t, b.Grant(ctx, alpha, "shop", "APP3"))
	require.NoError(t, b.Grant(ctx, alpha, "shop", "APP3"))
	p, err = b.Authenticate(ctx, "shop", string(password.Reveal()))
	require.NoError(t, err)
	require.Equal(t, []string{"APP1", "APP2", "APP3"}, p.Apps)

	renewed, err := b.Reset(ctx, alpha, "shop")
	require.NoError(t, err)
	_, err = b.Authenticate(ctx, "shop", string(password.Reveal()))
	require.ErrorIs(t, err, access.ErrUnauthenticated)
	_, err = b.Authenticate(ctx, "shop", string(renewed.Reveal()))
	require.NoError(t, err)

	require.NoError(t, b.Disable(ctx, alpha, "shop"))
	require.NoError(t, b.Disable(ctx, alpha, "shop"))
	_, err = b.Authenticate(ctx, "shop", string(renewed.Reveal()))
	require.ErrorIs(t, err, access.ErrUnauthenticated)
}

func TestBasicRoles(t *testing.T) {
	t.Parallel()
	b := setup(t).node(t)
	for role := range access.Privilege(10) {
		name := "user-" + role.String()
		password, err := b.Create(t.Context(), beta, access.NewCredential{Username: name, Role: role})
		switch role {
		case access.PAIntegration, access.PAAdmin, access.PAInternal:
			require.NoError(t, err)
			p, err := b.Authenticate(t.Context(), name, string(password.Reveal()))
			require.NoError(t, err)
			require.Equal(t, access.Any(role), p.Privileges)
			require.Empty(t, p.Apps)
		default:
			require.ErrorIs(t, err, access.ErrCredential, "role %d", role)
		}
	}
}

func TestCreateRefusesWithoutStoring(t *testing.T) {
	t.Parallel()
	s := setup(t)
	b, ctx := s.node(t), t.Context()
	for name, n := range map[string]access.NewCredential{
		"empty name":     integration(""),
		"long name":      integration(strings.Repeat("x", 256)),
		"colon":          integration("a:b"),
		"line break":     integration("a\nb"),
		"NUL":            integration("a\x00"),
		"invalid UTF-8":  integration("a\xff"),
		"no role":        {Username: "x"},
		"AST role":       {Username: "x", Role: access.AdminRead},
		"empty app":      integration("x", ""),
		"app with break": integration("x", "A\r\n"),
	} {
		_, err := b.Create(ctx, alpha, n)
		require.ErrorIs(t, err, access.ErrCredential, name)
		require.NotEmpty(t, fault.Of(err).Violations, name)
	}
	for _, who := range []tenant.ID{{}, tenant.System} {
		_, err := b.Create(ctx, who, integration("x"))
		require.ErrorIs(t, err, access.ErrCredential)
	}
	var n int
	require.NoError(t, s.db.Pool.QueryRow(ctx, `select count(*) from access_credential`).Scan(&n))
	require.Zero(t, n)
}

func TestUsernamesAreUniqueOverTenants(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t).node(t), t.Context()
	password, err := b.Create(ctx, alpha, integration("shop", "APP"))
	require.NoError(t, err)
	for _, who := range []tenant.ID{alpha, beta} {
		_, err = b.Create(ctx, who, integration("shop", "OTHER"))
		require.ErrorIs(t, err, access.ErrUserExists)
	}
	// Another tenant can not touch the user, and is told the same as for nobody.
	for _, name := range []string{"shop", "nobody"} {
		require.ErrorIs(t, b.Disable(ctx, beta, name), access.ErrUserUnknown)
		require.ErrorIs(t, b.Grant(ctx, beta, name, "X"), access.ErrUserUnknown)
		_, err = b.Reset(ctx, beta, name)
		require.ErrorIs(t, err, access.ErrUserUnknown)
	}
	p, err := b.Authenticate(ctx, "shop", string(password.Reveal()))
	require.NoError(t, err)
	require.Equal(t, []string{"APP"}, p.Apps)
	require.Equal(t, alpha, p.Tenant)
}

// Unknown, disabled and wrong are answered alike and take the same steps: the
// same statements, the same number of them, no HSM call, and all are remembered.
func TestRefusalsCostTheSame(t *testing.T) {
	t.Parallel()
	s := setup(t)
	b, ctx := s.node(t), t.Context()
	good, err := b.Create(ctx, alpha, integration("shop"))
	require.NoError(t, err)
	gone, err := b.Create(ctx, alpha, integration("gone"))
	require.NoError(t, err)
	require.NoError(t, b.Disable(ctx, alpha, "gone"))

	var texts []string
	for _, c := range [][2]string{
		{"nobody", string(good.Reveal())},
		{"shop", "wrong"},
		{"shop", ""},
		{"gone", string(gone.Reveal())},
		{"gone", "wrong"},
	} {
		for _, reads := range []int64{1, 0} { // first asked, then remembered
			before, opens := s.db.reads.Load(), s.sealer.opens.Load()
			_, err := b.Authenticate(ctx, c[0], c[1])
			require.ErrorIs(t, err, access.ErrUnauthenticated)
			require.Equal(t, reads, s.db.reads.Load()-before, "%s", c[0])
			require.Equal(t, opens, s.sealer.opens.Load())
			texts = append(texts, err.Error())
		}
	}
	for _, text := range texts {
		require.Equal(t, texts[0], text)
	}
	for _, c := range [][2]string{{"", "x"}, {"a:b", "x"}, {"a\x00b", "x"}, {"\xff", "x"}, {"shop", strings.Repeat("x", 10_000)}} {
		_, err := b.Authenticate(ctx, c[0], c[1])
		require.ErrorIs(t, err, access.ErrUnauthenticated)
	}
}

func TestVerdictsAreCachedForSeconds(t *testing.T) {
	t.Parallel()
	s := setup(t)
	a, other, ctx := s.node(t), s.node(t), t.Context()
	password, err := a.Create(ctx, alpha, integration("shop"))
	require.NoError(t, err)
	ask := func() error {
		_, err := other.Authenticate(ctx, "shop", string(password.Reveal()))
		return err
	}
	require.NoError(t, ask())
	before := s.db.reads.Load()
	for range 100 {
		require.NoError(t, ask())
	}
	require.Equal(t, before, s.db.reads.Load(), "no statement while it is remembered")

	require.NoError(t, a.Disable(ctx, alpha, "shop"))
	require.NoError(t, ask(), "another node may be late")
	s.clock.step(6 * time.Second)
	require.ErrorIs(t, ask(), access.ErrUnauthenticated, "but by seconds only")
}

func TestAnOutageIsNoRefusal(t *testing.T) {
	t.Parallel()
	s := setup(t)
	ctx := t.Context()
	password, err := s.node(t).Create(ctx, alpha, integration("shop"))
	require.NoError(t, err)
	b := s.node(t) // a fresh node has to open the pepper
	s.sealer.out.Store(true)
	_, err = b.Authenticate(ctx, "shop", string(password.Reveal()))
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.NotErrorIs(t, err, access.ErrUnauthenticated)
	s.sealer.out.Store(false)
	s.db.out.Store(true)
	for _, name := range []string{"shop", "nobody"} {
		_, err = b.Authenticate(ctx, name, string(password.Reveal()))
		require.ErrorIs(t, err, fault.ErrUnavailable)
	}
	s.db.out.Store(false)
	_, err = b.Authenticate(ctx, "shop", string(password.Reveal()))
	require.NoError(t, err, "the outage was not remembered")
}

// A row moved inside the database to another name, tenant or role is worth
// nothing, and the database holds neither secret nor pepper.
func TestMACIsBoundToItsRow(t *testing.T) {
	t.Parallel()
	for _, change := range []string{
		`update access_credential set role = 'admin'`,
		`update access_credential set tenant_id = 'beta'`,
	} {
		s := setup(t)
		ctx := t.Context()
		password, err := s.node(t).Create(ctx, alpha, integration("shop"))
		require.NoError(t, err)
		_, err = s.db.Exec(ctx, change)
		require.NoError(t, err)
		_, err = s.node(t).Authenticate(ctx, "shop", string(password.Reveal()))
		require.ErrorIs(t, err, access.ErrUnauthenticated, change)
	}
}

func TestTwoNodesMakeOnePepper(t *testing.T) {
	t.Parallel()
	s := setup(t)
	ctx := t.Context()
	var wg sync.WaitGroup
	passwords := make([]secret.Bytes, 8)
	for i := range passwords {
		b := s.node(t)
		wg.Go(func() { passwords[i], _ = b.Create(ctx, alpha, integration("user-"+string(rune('a'+i)))) })
	}
	wg.Wait()
	for i, p := range passwords {
		_, err := s.node(t).Authenticate(ctx, "user-"+string(rune('a'+i)), string(p.Reveal()))
		require.NoError(t, err)
	}
	var n int
	require.NoError(t, s.db.Pool.QueryRow(ctx, `select count(*) from access_pepper where tenant_id = '_system'`).Scan(&n))
	require.Equal(t, 1, n)
}

func TestBasicConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := access.NewBasic(access.BasicConfig{})
	require.ErrorIs(t, err, access.ErrConfig)
}

func BenchmarkBasicRemembered(b *testing.B) {
	db := &counted{Pool: pgtest.New(b)}
	basic, err := access.NewBasic(access.BasicConfig{DB: db, Sealer: &sealer{blobs: map[string][]byte{}}})
	require.NoError(b, err)
	password, err := basic.Create(b.Context(), alpha, integration("shop", "APP"))
	require.NoError(b, err)
	p := string(password.Reveal())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := basic.Authenticate(b.Context(), "shop", p); err != nil {
			b.Fatal(err)
		}
	}
}

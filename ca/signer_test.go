package ca_test

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestCA06CreateSigner(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()

	first, err := a.CreateSigner(ctx, alpha, ca.CreateSigner{Actor: "admin"})
	require.NoError(t, err)
	require.Equal(t, "signer-0", first.Name)
	require.Zero(t, first.Generation)
	require.Equal(t, ca.Active, first.State)
	require.Equal(t, alpha, first.Tenant)
	require.Len(t, first.ID, 26)
	cert, err := x509.ParseCertificate(first.Certificate)
	require.NoError(t, err)
	require.Equal(t, "SERIALNUMBER="+first.ID+",CN=signer-0,O=alpha", cert.Subject.String())
	require.True(t, cert.IsCA)
	require.True(t, cert.MaxPathLenZero)

	second, err := a.CreateSigner(ctx, alpha, ca.CreateSigner{Name: "Rückzahlung 2026", Actor: "admin"})
	require.NoError(t, err)
	require.Equal(t, 1, second.Generation)
	require.Equal(t, ca.Active, second.State)
	require.Equal(t, "Rückzahlung 2026", second.Name)
	before, err := a.Signer(ctx, alpha, first.ID)
	require.NoError(t, err)
	require.Equal(t, ca.Retired, before.State)
	require.Equal(t, first.Certificate, before.Certificate)
	require.True(t, before.UpdatedAt.After(before.CreatedAt))

	require.ElementsMatch(t, []string{"signet/1/alpha/signer/signer/0", "signet/1/alpha/signer/signer/1"}, b.signerKeys(t))
	// The signer's id is the reference of its certificate (CA-13).
	require.Equal(t, 1, b.count(t, `select count(*) from ca_certificate where tenant_id = 'alpha' and cert_ref = $1
		and profile = 'SIGNER' and status = 'ISSUED' and certificate = $2 and signer_id is null`, second.ID, second.Certificate))
	require.Equal(t, 2, b.count(t, `select count(*) from audit_event where tenant_id = 'alpha' and action = 'signer.create' and outcome = 'ok' and actor = 'admin'`))
	require.Equal(t, 1, b.count(t, `select count(*) from audit_event where detail->'retired'->>0 = $1`, first.ID))
}

func TestCA06TwinTenantsDoNotMeet(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	one, err := a.CreateSigner(ctx, alpha, ca.CreateSigner{Name: "main"})
	require.NoError(t, err)
	two, err := a.CreateSigner(ctx, beta, ca.CreateSigner{Name: "main"})
	require.NoError(t, err)
	require.Zero(t, two.Generation)
	require.Equal(t, ca.Active, two.State)
	still, err := a.Signer(ctx, alpha, ca.Current)
	require.NoError(t, err)
	require.Equal(t, one.ID, still.ID)
	require.ElementsMatch(t, []string{"signet/1/alpha/signer/signer/0", "signet/1/beta/signer/signer/0"}, b.signerKeys(t))

	certOne, certTwo := issue(t, a, ctx), ca.Certificate{}
	certTwo, err = a.IssueDevice(ctx, beta, order(t))
	require.NoError(t, err)
	require.Equal(t, one.ID, certOne.Signer)
	require.Equal(t, two.ID, certTwo.Signer)
	leaf, err := x509.ParseCertificate(certTwo.DER)
	require.NoError(t, err)
	require.Equal(t, "CN="+client+",O=beta", leaf.Subject.String())
	require.Error(t, issuance.VerifyChain(append([][]byte{certTwo.DER}, certOne.Chain...), time.Now()))

	list, total, err := a.ListSigners(ctx, beta, ca.Page{})
	require.NoError(t, err)
	require.Equal(t, 1, total)
	require.Equal(t, two.ID, list[0].ID)
	_, err = a.Signer(ctx, beta, one.ID)
	require.ErrorIs(t, err, ca.ErrNoSigner)
	_, err = a.Chain(ctx, alpha, two.ID)
	require.ErrorIs(t, err, ca.ErrNoSigner)
}

func issue(t *testing.T, a *ca.Authority, ctx context.Context) ca.Certificate {
	t.Helper()
	c, err := a.IssueDevice(ctx, alpha, order(t))
	require.NoError(t, err)
	return c
}

func TestCA06RefusesNames(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	for _, name := range []string{" ", " a", "a\n", "a\x00b", "\xff", strings.Repeat("ä", 65), "a\u202eb"} {
		_, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{Name: name})
		require.ErrorIs(t, err, ca.ErrRequest, "%q", name)
		require.Equal(t, "name", fault.Of(err).Violations[0].Field)
	}
	require.Zero(t, b.count(t, `select count(*) from ca_signer`))
	_, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{Name: strings.Repeat("ä", 64)})
	require.NoError(t, err)
}

func TestCA06EveryAlgorithm(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	for i, alg := range []hsm.Algorithm{hsm.P384, hsm.RSA3072, hsm.Ed25519, hsm.P256} {
		a := b.authority(t, func(c *ca.Config) { c.SignerAlgorithm = alg })
		s, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
		require.NoError(t, err, alg)
		require.Equal(t, i, s.Generation)
		c := issue(t, a, t.Context())
		require.NoError(t, issuance.VerifyChain(append([][]byte{c.DER}, c.Chain...), time.Now()), alg)
	}
}

// Whatever goes wrong on the way, the tenant keeps the signer it had, and what
// was begun is neither seen nor usable.
func TestCA06AFailedCreationChangesNothing(t *testing.T) {
	t.Parallel()
	outage := errors.New("lane lost")
	for name, c := range map[string]struct {
		faults ca.Faults
		db     func(sql string) error
		want   error
		state  string // of the new row
		keys   int    // signer keys left
	}{
		"key generation fails late": {
			faults: ca.Faults{Generate: func(hsm.Ref, [16]byte) error { return outage }}, want: outage, state: "FAILED", keys: 1,
		},
		"key can not be used": {
			faults: ca.Faults{Signer: func(r hsm.Ref) error {
				if r.Generation == 1 {
					return hsm.ErrKeyNotFound
				}
				return nil
			}}, want: ca.ErrKey, state: "FAILED", keys: 1,
		},
		"new key does not sign": {
			faults: ca.Faults{Sign: func(_ context.Context, r hsm.Ref) error {
				if r.Role == hsm.RoleSigner {
					return outage
				}
				return nil
			}}, want: outage, state: "FAILED", keys: 1,
		},
		"issuer does not sign": {
			faults: ca.Faults{Sign: func(_ context.Context, r hsm.Ref) error {
				if r.Role == hsm.RoleIssuer {
					return outage
				}
				return nil
			}}, want: outage, state: "FAILED", keys: 1,
		},
		"certificate intent is not stored": {
			db: failOn("insert into ca_certificate"), want: fault.ErrUnavailable, state: "FAILED", keys: 1,
		},
		"activation is not stored": {
			db: failOn("state = 'ACTIVE', certificate"), want: fault.ErrUnavailable, state: "FAILED", keys: 1,
		},
		"audit is not stored": {
			db: failTimes(1, "audit_event"), want: fault.ErrUnavailable, state: "FAILED", keys: 1,
		},
		// The database stays away: nothing can be cleaned up, and nothing needs it.
		"database is gone for good": {
			db: failFrom("state = 'ACTIVE', certificate"), want: fault.ErrUnavailable, state: "PENDING", keys: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, a := bundle(t)
			ctx := t.Context()
			before, err := a.CreateSigner(ctx, alpha, ca.CreateSigner{})
			require.NoError(t, err)
			broken := b.authority(t, func(cfg *ca.Config) {
				if c.db != nil {
					cfg.DB = &brokenDB{Pool: b.db, fail: c.db}
				}
			})
			broken.Inject(&c.faults, issuerRef)
			_, err = broken.CreateSigner(ctx, alpha, ca.CreateSigner{})
			require.ErrorIs(t, err, c.want)
			require.NotEqual(t, fault.NotFound, fault.KindOf(err))

			now, err := a.Signer(ctx, alpha, ca.Current)
			require.NoError(t, err)
			require.Equal(t, before, now)
			list, total, err := a.ListSigners(ctx, alpha, ca.Page{})
			require.NoError(t, err)
			require.Equal(t, 1, total)
			require.Equal(t, []ca.Signer{before}, list)
			var id, state string
			require.NoError(t, b.db.QueryRow(ctx, `select id, state from ca_signer where generation = 1`).Scan(&id, &state))
			require.Equal(t, c.state, state)
			_, err = a.Signer(ctx, alpha, id)
			require.ErrorIs(t, err, ca.ErrNoSigner)
			require.Len(t, b.signerKeys(t), c.keys)
			require.Zero(t, b.count(t, `select count(*) from ca_certificate where cert_ref = $1 and status = 'ISSUED'`, id))
			if state == "FAILED" {
				require.Zero(t, b.count(t, `select count(*) from ca_certificate where cert_ref = $1 and status <> 'FAILED'`, id))
				require.Equal(t, 1, b.count(t, `select count(*) from audit_event where subject = $1 and outcome <> 'ok'`, id))
			}

			issue(t, a, ctx)
			next, err := a.CreateSigner(ctx, alpha, ca.CreateSigner{})
			require.NoError(t, err)
			require.Equal(t, 2, next.Generation) // a used generation does not come back
		})
	}
}

func failOn(part string) func(string) error {
	return func(sql string) error {
		if strings.Contains(sql, part) {
			return errCut
		}
		return nil
	}
}

func failTimes(n int, part string) func(string) error {
	return func(sql string) error {
		if n > 0 && strings.Contains(sql, part) {
			n--
			return errCut
		}
		return nil
	}
}

func failFrom(part string) func(string) error {
	down := false
	return func(sql string) error {
		down = down || strings.Contains(sql, part)
		if down {
			return errCut
		}
		return nil
	}
}

// The commit took place, its answer was lost: the caller learns the truth.
func TestCA06LostAnswerToTheCommit(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	commits := 0
	lost := b.authority(t, func(c *ca.Config) {
		c.DB = &brokenDB{Pool: b.db, fail: func(sql string) error {
			if sql == "committed" {
				if commits++; commits == 2 { // after the certificate's intent
					return errCut
				}
			}
			return nil
		}}
	})
	s, err := lost.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	require.GreaterOrEqual(t, commits, 2)
	require.Equal(t, ca.Active, s.State)
	now, err := a.Signer(t.Context(), alpha, ca.Current)
	require.NoError(t, err)
	require.Equal(t, s, now)
	require.Len(t, b.signerKeys(t), 1)
	issue(t, lost, t.Context())
}

// A label that is taken belongs to somebody: the failed creation must not
// destroy that key (a restored database counts generations a second time).
func TestCA06ATakenLabelIsLeftAlone(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	taken := hsm.Ref{Tenant: "alpha", Role: hsm.RoleSigner, Name: "signer"}
	_, err := b.token.Generate(t.Context(), taken, hsm.P256, [16]byte{1})
	require.NoError(t, err)
	_, err = a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.ErrorIs(t, err, ca.ErrKey)
	_, err = b.token.Lookup(t.Context(), taken)
	require.NoError(t, err)
	s, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	require.Equal(t, 1, s.Generation)
}

func TestCA06DeadlineEndsTheCreation(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx, cancel := context.WithCancel(t.Context())
	slow := b.authority(t, nil)
	slow.Inject(&ca.Faults{Sign: func(ctx context.Context, r hsm.Ref) error {
		if r.Role == hsm.RoleIssuer {
			cancel()
		}
		return ctx.Err()
	}}, issuerRef)
	_, err := slow.CreateSigner(ctx, alpha, ca.CreateSigner{})
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.Equal(t, 1, b.count(t, `select count(*) from ca_signer where state = 'FAILED'`))
	_, err = a.Signer(t.Context(), alpha, ca.Current)
	require.ErrorIs(t, err, ca.ErrNoSigner)
}

func TestCA07GetSigner(t *testing.T) {
	t.Parallel()
	_, a := bundle(t)
	ctx := t.Context()
	_, err := a.Signer(ctx, alpha, ca.Current)
	require.ErrorIs(t, err, ca.ErrNoSigner)
	s, err := a.CreateSigner(ctx, alpha, ca.CreateSigner{})
	require.NoError(t, err)
	for _, spec := range []string{s.ID, ca.Current} {
		got, err := a.Signer(ctx, alpha, spec)
		require.NoError(t, err)
		require.Equal(t, s, got)
	}
	for _, spec := range []string{"", "CURRENT", strings.ToLower(s.ID), s.ID + " ", "01F6MJ6J1AA8HWB7G6XRJB709E", "' or 1=1 --", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", s.ID[:25] + "\x00"} {
		_, err := a.Signer(ctx, alpha, spec)
		require.ErrorIs(t, err, ca.ErrNoSigner, "%q", spec)
	}
}

func TestCA05ListSigners(t *testing.T) {
	t.Parallel()
	_, a := bundle(t)
	ctx := t.Context()
	list, total, err := a.ListSigners(ctx, alpha, ca.Page{})
	require.NoError(t, err)
	require.Zero(t, total)
	require.Empty(t, list)
	for range 7 {
		_, err := a.CreateSigner(ctx, alpha, ca.CreateSigner{})
		require.NoError(t, err)
	}
	for _, c := range []struct {
		page ca.Page
		want []int
	}{
		{ca.Page{}, []int{6, 5, 4, 3, 2, 1, 0}},
		{ca.Page{Number: 1, Size: 5}, []int{6, 5, 4, 3, 2}},
		{ca.Page{Number: 2, Size: 5}, []int{1, 0}},
		{ca.Page{Number: 3, Size: 5}, nil},
		{ca.Page{Number: 1<<31 - 1, Size: 100}, nil},
	} {
		list, total, err := a.ListSigners(ctx, alpha, c.page)
		require.NoError(t, err)
		require.Equal(t, 7, total)
		var got []int
		for _, s := range list {
			got = append(got, s.Generation)
			require.NotNil(t, s.Certificate)
			require.Equal(t, s.Generation == 6, s.State == ca.Active)
		}
		require.Equal(t, c.want, got)
	}
	for _, page := range []ca.Page{{Number: -1}, {Size: 4}, {Size: 101}, {Size: -5}} {
		_, _, err := a.ListSigners(ctx, alpha, page)
		require.ErrorIs(t, err, ca.ErrRequest)
		require.NotEmpty(t, fault.Of(err).Violations)
	}
}

func TestCA09Chain(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	s, err := a.CreateSigner(ctx, alpha, ca.CreateSigner{})
	require.NoError(t, err)
	chain, err := a.Chain(ctx, alpha, ca.Current)
	require.NoError(t, err)
	require.Equal(t, append([][]byte{s.Certificate}, b.chain...), chain)
	require.NoError(t, issuance.VerifyChain(chain, time.Now()))
	_, err = a.CreateSigner(ctx, alpha, ca.CreateSigner{})
	require.NoError(t, err)
	old, err := a.Chain(ctx, alpha, s.ID) // RETIRED is still good for checking
	require.NoError(t, err)
	require.Equal(t, chain, old)

	_, err = b.db.Exec(ctx, `update ca_signer set state = 'REVOKED', certificate = null, revoked_at = now(), revocation_reason = 0 where id = $1`, s.ID)
	require.NoError(t, err)
	_, err = a.Chain(ctx, alpha, s.ID)
	require.ErrorIs(t, err, ca.ErrNotIssued)
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	_, err = a.Chain(ctx, beta, ca.Current)
	require.ErrorIs(t, err, ca.ErrNoSigner)
}

// After a change of issuer the old chain must not be told with the new issuer.
func TestCA09AnotherIssuer(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	s, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	other := hsm.Ref{Tenant: "_system", Role: hsm.RoleIssuer, Name: "issuer", Generation: 1}
	_, err = b.token.Generate(t.Context(), other, hsm.P256, [16]byte{})
	require.NoError(t, err)
	rootKey := softKey(t)
	now := time.Now().Add(-time.Hour)
	root := certify(t, rootKey, issuance.Order{Profile: compile(t, issuance.Root()), Request: request(t, rootKey), Subject: issuance.Subject{CommonName: "Other Root"}, Now: now})
	anchor, err := issuance.NewAuthority(root)
	require.NoError(t, err)
	key, err := b.token.Signer(t.Context(), other)
	require.NoError(t, err)
	issuer := certify(t, rootKey, issuance.Order{Issuer: anchor, Profile: compile(t, issuance.Issuer()), Request: request(t, key), Subject: issuance.Subject{CommonName: "Test Issuer"}, Now: now})
	changed := b.authority(t, func(c *ca.Config) { c.IssuerChain, c.IssuerKey = [][]byte{issuer, root}, other })
	_, err = changed.Chain(t.Context(), alpha, s.ID)
	require.ErrorIs(t, err, ca.ErrOtherIssuer)
	_, err = changed.IssueDevice(t.Context(), alpha, order(t))
	require.ErrorIs(t, err, ca.ErrOtherIssuer)
}

func TestOutageOfTheDatabaseIsNoVerdict(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	_, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	issue(t, a, t.Context())
	b.db.Close()
	for name, f := range map[string]func() error{
		"get":    func() error { _, err := a.Signer(t.Context(), alpha, ca.Current); return err },
		"chain":  func() error { _, err := a.Chain(t.Context(), alpha, ca.Current); return err },
		"list":   func() error { _, _, err := a.ListSigners(t.Context(), alpha, ca.Page{}); return err },
		"create": func() error { _, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{}); return err },
		"issue":  func() error { _, err := a.IssueDevice(t.Context(), alpha, order(t)); return err },
	} {
		err := f()
		require.Error(t, err, name)
		require.Equal(t, fault.Unavailable, fault.KindOf(err), name)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	signer := hsm.Ref{Tenant: "_system", Role: hsm.RoleIssuer, Name: "issuer", Generation: 7}
	_, err := b.token.Generate(t.Context(), signer, hsm.P256, [16]byte{})
	require.NoError(t, err)
	year := 365 * 24 * time.Hour
	for name, change := range map[string]func(*ca.Config){
		"no database":       func(c *ca.Config) { c.DB = nil },
		"no token":          func(c *ca.Config) { c.Token = nil },
		"no audit":          func(c *ca.Config) { c.Audit = nil },
		"no chain":          func(c *ca.Config) { c.IssuerChain = nil },
		"issuer only":       func(c *ca.Config) { c.IssuerChain = c.IssuerChain[:1] },
		"chain upside down": func(c *ca.Config) { c.IssuerChain = [][]byte{c.IssuerChain[1], c.IssuerChain[0]} },
		"another key":       func(c *ca.Config) { c.IssuerKey = signer },
		"no such key":       func(c *ca.Config) { c.IssuerKey.Generation = 9 },
		"key of a root":     func(c *ca.Config) { c.IssuerKey.Role = hsm.RoleRoot },
		"bad algorithm":     func(c *ca.Config) { c.SignerAlgorithm = hsm.RSA2048 },
		"algorithm, profile": func(c *ca.Config) {
			p := issuance.Signer()
			p.Keys = []issuance.KeyAlgorithm{issuance.P384}
			c.SignerProfile = &p
		},
		"bad profile":      func(c *ca.Config) { c.DeviceProfile = &issuance.Profile{} },
		"bad default name": func(c *ca.Config) { c.SignerName = "a\n" },
		"issuer expired":   func(c *ca.Config) { c.Now = func() time.Time { return time.Now().Add(11 * year) } },
		"issuer not yet":   func(c *ca.Config) { c.Now = func() time.Time { return time.Now().Add(-year) } },
	} {
		c := b.config(t)
		change(&c)
		_, err := ca.New(t.Context(), c)
		require.Error(t, err, name)
		require.Equal(t, fault.Internal, fault.KindOf(err), name)
	}
}

func TestParseChain(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "hello", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		_, err := ca.ParseChain([]byte(bad))
		require.ErrorIs(t, err, ca.ErrConfig, "%q", bad)
	}
	chain, err := ca.ParseChain([]byte("issuer\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\nroot\n-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n"))
	require.NoError(t, err)
	require.Equal(t, [][]byte{{0, 0, 0}, {1, 2, 3}}, chain)
}

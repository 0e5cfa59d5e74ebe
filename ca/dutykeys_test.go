package ca_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// dutyKind is a kind of keys that do something for a CA.
type dutyKind struct {
	role    hsm.Role
	prefix  string // of the columns and actions
	days    time.Duration
	certify func(*ca.Issuers, context.Context, revocation.KeyID, issuance.Serial) ([]byte, error)
}

// The keys for OCSP and CRLs of a signer that has ended stay as long as something
// they signed counts, and are destroyed after that; one that is RETIRED keeps them.
func TestDutyKeysOfEndedSignersAreDestroyed(t *testing.T) {
	t.Parallel()
	for _, k := range []dutyKind{
		{hsm.RoleOCSP, "ocsp", 14, (*ca.Issuers).CertifyResponder},
		{hsm.RoleCRL, "crl", 30, (*ca.Issuers).CertifyCRLSigner},
	} {
		t.Run(k.prefix, func(t *testing.T) {
			t.Parallel()
			k.destroyed(t)
		})
	}
}

func (kind *dutyKind) destroyed(t *testing.T) {
	sql := func(text string) string { return strings.ReplaceAll(text, "ocsp", kind.prefix) }
	b, a := bundle(t)
	ctx := t.Context()
	retired, revoked := create(t, a), create(t, a)
	deleted, err := a.CreateSigner(ctx, beta, ca.CreateSigner{})
	require.NoError(t, err)
	s := issuersOf(t, a)
	ids := map[string]revocation.KeyID{}
	for _, signer := range []ca.Signer{retired, revoked, deleted} {
		ids[signer.ID] = keyID(t, signer.Certificate)
		_, err := kind.certify(s, ctx, ids[signer.ID], newSerial(t))
		require.NoError(t, err)
	}
	top := keyID(t, b.chain[0])
	_, err = kind.certify(s, ctx, top, newSerial(t))
	require.NoError(t, err)
	left := func() (names []string) {
		keys, err := b.token.Keys(ctx, func(r hsm.Ref) bool { return r.Role == kind.role })
		require.NoError(t, err)
		for _, k := range keys {
			names = append(names, k.Ref.Name)
		}
		return names
	}
	require.Len(t, left(), 4)
	require.NoError(t, a.RevokeSigner(ctx, alpha, ca.RevokeSigner{Spec: revoked.ID, Actor: "test"}))
	require.NoError(t, a.DeleteSigner(ctx, beta, ca.DeleteSigner{Spec: deleted.ID, Actor: "test"}))
	b.settle(t, a)
	require.Len(t, left(), 4, "what it signed counts still")

	// An intent that lost the race with the revocation makes no key.
	_, err = kind.certify(issuersOf(t, b.authority(t, nil)), ctx, ids[revoked.ID], newSerial(t))
	require.ErrorIs(t, err, revocation.ErrNoIssuer)

	later := func(d time.Duration) func(*ca.Config) {
		return func(c *ca.Config) { c.Now = func() time.Time { return time.Now().Add(d) } }
	}
	_, err = b.authority(t, later((kind.days-1)*24*time.Hour)).Reconcile(ctx)
	require.NoError(t, err)
	require.Len(t, left(), 4, "the certificate lasts longer")

	// The HSM is out: the intent stands, and is carried out when its lease is over.
	events := func(outcome string) int {
		return b.count(t, sql(`select count(*) from audit_event where action = 'ocsp.destroy' and outcome = $1`), outcome)
	}
	for i, wait := range []time.Duration{0, 0, time.Hour, 2 * time.Hour} {
		broken := b.authority(t, later((kind.days+1)*24*time.Hour+wait))
		broken.Inject(&ca.Faults{Discard: func(hsm.Ref) error { return fault.ErrUnavailable }}, issuerRef)
		_, err = broken.Reconcile(ctx)
		require.ErrorIs(t, err, fault.ErrUnavailable)
		require.Equal(t, min(i+1, 2), b.count(t, sql(`select count(*) from ca_signer where ocsp_doomed_at is not null and ocsp_destroyed_at is null`)))
		require.Equal(t, min(i+1, 2), events("intended"), "once for each key, however often it is tried")
		require.Zero(t, events("ok"), "nothing was destroyed")
	}
	require.Len(t, left(), 4)

	node := b.authority(t, later((kind.days+2)*24*time.Hour))
	for range 2 {
		_, err = node.Reconcile(ctx)
		require.NoError(t, err)
		require.ElementsMatch(t, []string{ids[retired.ID].String(), top.String()}, left())
	}
	require.Equal(t, 2, b.count(t, sql(`select count(*) from ca_signer where ocsp_destroyed_at is not null and state in ('REVOKED', 'DELETED')`)))
	for owner, signer := range map[string]ca.Signer{"alpha": revoked, "beta": deleted} {
		for _, outcome := range []string{"intended", "ok"} {
			require.Equal(t, 1, b.count(t, sql(`select count(*) from audit_event where tenant_id = $1 and action = 'ocsp.destroy' and subject = $2
				and detail ->> 'signer' = $3 and outcome = $4`), owner, ids[signer.ID].String(), signer.ID, outcome))
		}
	}
}

// A key whose making was cut off after its intent is swept as well, and one that
// another node has destroyed is no error.
func TestDutyKeyThatIsNotThere(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	s := create(t, a)
	broken := b.authority(t, nil)
	broken.Inject(&ca.Faults{Making: func(hsm.Ref) error { return fault.ErrUnavailable }}, issuerRef)
	_, err := issuersOf(t, broken).CertifyResponder(t.Context(), keyID(t, s.Certificate), newSerial(t))
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.Equal(t, 1, b.count(t, `select count(*) from ca_signer where ocsp_key_id is not null`))
	require.NoError(t, a.RevokeSigner(t.Context(), alpha, ca.RevokeSigner{Spec: s.ID, Actor: "test"}))
	node := b.authority(t, func(c *ca.Config) { c.Now = func() time.Time { return time.Now().Add(15 * 24 * time.Hour) } })
	_, err = node.Reconcile(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, b.count(t, `select count(*) from ca_signer where ocsp_destroyed_at is not null`))
}

// Half a pair, which a SIGKILL left, does not keep a CA from its OCSP and CRL keys.
func TestDutyKeyOfWhichHalfWasMade(t *testing.T) {
	t.Parallel()
	soft := softhsmtest.Create(t)
	b := &bench{db: pgtest.New(t), token: softhsmtest.Open(t, soft.HSM())}
	b.chain = issuerChain(t, b.token)
	a := b.authority(t, nil)
	id := keyID(t, create(t, a).Certificate)
	dead := softhsmtest.Open(t, soft.HSM()) // another process, of which nothing is remembered
	for role, certify := range map[hsm.Role]func(*ca.Issuers, context.Context, revocation.KeyID, issuance.Serial) ([]byte, error){
		hsm.RoleOCSP: (*ca.Issuers).CertifyResponder, hsm.RoleCRL: (*ca.Issuers).CertifyCRLSigner,
	} {
		ref := hsm.Ref{Tenant: "alpha", Role: role, Name: id.String()}
		_, err := dead.Generate(t.Context(), ref, hsm.P256, [16]byte{9, byte(len(role))})
		require.NoError(t, err)
		softhsmtest.Halve(t, soft, ref.String())
		der, err := certify(issuersOf(t, a), t.Context(), id, newSerial(t))
		require.NoError(t, err)
		key, err := b.token.Signer(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, key.Public(), parse(t, der).PublicKey)
	}
	there, _ := softhsmtest.Objects(t, soft)
	require.Len(t, there, 8, "issuer, signer and two more, both halves of each")
}

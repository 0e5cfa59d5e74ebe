package ca_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/hsm/hsmtest/faultmodule"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// 34: the module signs with a bit that is wrong, now and then. Nothing of it leaves:
// no certificate of a device or a signer, no configuration, no CRL, and what is
// stored as ISSUED verifies. All of it is an error for us to mend, and none a verdict.
func TestFault34_WrongSignaturesDoNotLeave(t *testing.T) {
	t.Parallel()
	st, module := softhsmtest.Faulty(t)
	b := &crashBench{bench: &bench{db: pgtest.New(t), token: softhsmtest.Open(t, st.HSM())}}
	b.chain = issuerChain(t, b.token)
	a := b.authority(t, nil)
	create(t, a)
	issuers, err := a.Issuers()
	require.NoError(t, err)
	publisher, err := revocation.New(revocation.Config{DB: b.db, Authority: issuers})
	require.NoError(t, err)

	f := module.Inject(faultmodule.Rule{On: "C_Sign", Do: faultmodule.Flip, Chance: 0.4, Seed: 34})
	refused, left := 0, 0
	judge := func(err error, good func()) {
		if err != nil {
			refused++
			return
		}
		left++
		good()
	}
	for range 12 {
		c, err := a.IssueDevice(t.Context(), alpha, order(t))
		judge(err, func() {
			require.NoError(t, issuance.VerifyChain(append([][]byte{c.DER}, c.Chain...), time.Now()))
		})
		jws, err := a.SignWithCurrent(t.Context(), alpha, statement())
		judge(err, func() { open(t, b.bench, jws) })
		s, err := a.CreateSigner(t.Context(), beta, ca.CreateSigner{})
		judge(err, func() {
			require.NoError(t, issuance.VerifyChain(append([][]byte{s.Certificate}, b.chain...), time.Now()))
		})
		require.NoError(t, publisher.Round(t.Context()))
	}
	require.Positive(t, f.Hits())
	require.Positive(t, refused)
	require.Positive(t, left)
	f.Stop()
	b.verifyAll(t)
	require.Len(t, b.signerKeys(t), b.count(t, `select count(*) from ca_signer where state in ('ACTIVE', 'RETIRED')`))
	t.Logf("%d signatures were wrong; %d requests refused, %d served, all good", f.Hits(), refused, left)
}

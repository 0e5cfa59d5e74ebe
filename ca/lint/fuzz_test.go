package lint_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
)

// FuzzCompiled looks for a draft that the compiled check passes and the full lint
// does not.
func FuzzCompiled(f *testing.F) {
	w := newTower(f, "P-256", &nothing{})
	var c catcher
	o := w.device(f, &nothing{})
	p := issuance.ASTDevice()
	o.Profile = compile(f, p, &c)
	_, err := issuance.Prepare(o)
	require.NoError(f, err)
	check, err := lint.Compiled(c.caught)
	require.NoError(f, err)
	f.Add(c.caught.TBS())
	f.Fuzz(func(t *testing.T, tbs []byte) {
		if check(tbs) == nil {
			require.Empty(t, lint.Profiled(wrap(t, tbs), w.signer.Certificate(), &p))
		}
	})
}

// FuzzFindings: whatever the bytes, there is a verdict and no panic, and nothing
// that is not of this installation passes.
func FuzzFindings(f *testing.F) {
	w := newTower(f, "P-256", &nothing{})
	signer := w.signer.Certificate()
	leaf := sign(f, w.device(f, &nothing{}), w.signerKey)
	f.Add(leaf)
	f.Add(w.rootDER)
	f.Add(crl(f, w, nil))
	f.Fuzz(func(t *testing.T, der []byte) {
		p := issuance.ASTDevice()
		lint.Certificate(der, nil)
		lint.Profiled(der, signer, &p)
		if len(lint.CRL(der, signer)) == 0 {
			require.Equal(t, byte(0x30), der[0])
		}
		require.NotEmpty(t, lint.OCSP(der, signer))
	})
}

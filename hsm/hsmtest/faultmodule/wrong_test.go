package faultmodule_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/hsmtest/faultmodule"
)

// 34: signatures with a bit that is wrong. None leaves: those of the roles whose
// callers do not verify what they sign are verified by the signer. (What a CA signs
// is verified whole by who signs it: TestFault34 in package ca.)
func TestFault34_WrongSignatures(t *testing.T) {
	each(t, modes, func(t *testing.T, r *rig) {
		const calls = 100
		struck, refused := 0, 0
		for _, role := range []hsm.Role{hsm.RoleMaster, hsm.RoleAudit} {
			ref := hsm.Ref{Tenant: "alpha", Role: role, Name: "s"}
			_, err := r.tok.Generate(t.Context(), ref, hsm.P256, [16]byte{})
			require.NoError(t, err)
			s, err := r.tok.Signer(t.Context(), ref)
			require.NoError(t, err)
			f := r.Inject(faultmodule.Rule{On: "C_Sign", Do: faultmodule.Flip, Chance: 0.3, Seed: r.seed})
			prefix := []byte("kept")
			for i := range calls {
				d := sha256.Sum256(fmt.Append(nil, i))
				out, err := s.AppendSignature(t.Context(), append(make([]byte, 0, 100), prefix...), d[:], crypto.SHA256)
				if err != nil {
					require.ErrorIs(t, err, hsm.ErrSignature)
					require.ErrorIs(t, err, fault.ErrUnavailable)
					require.Nil(t, out)
					refused++
					continue
				}
				require.Equal(t, prefix, out[:len(prefix)])
				require.True(t, ecdsa.VerifyASN1(s.Public().(*ecdsa.PublicKey), d[:], out[len(prefix):]), "a wrong signature left")
			}
			struck += f.Hits()
			f.Stop()
			require.NoError(t, sign(t.Context(), s, "x"))
		}
		require.Positive(t, struck)
		require.Equal(t, struck, refused)
		require.EqualValues(t, refused, gather(t, r.reg, "signet_hsm_wrong_signatures_total"))
	})
}

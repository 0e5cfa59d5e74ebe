package hsm_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/hsmtest"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Debian's SoftHSM 2.6.1 has everything, Ed25519 included.
func TestContractSoftHSM(t *testing.T) {
	t.Parallel()
	hsmtest.Run(t, func(t *testing.T) *hsm.Token { return softhsmtest.New(t) }, hsmtest.Caps{})
}

package faultmodule_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/signet-hsm/signet/hsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	none = mode{"none", hsm.Open}

	modes = []mode{none}
)

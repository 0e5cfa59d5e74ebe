package revocation_test

import (
	"testing"

	"github.com/signet-hsm/signet/internal/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

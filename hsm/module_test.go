package hsm_test

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/hsmtest"
	"github.com/signet-hsm/signet/internal/secret"
)

// TestContractModule runs the contract against any module, your HSM's as well:
//
//	SIGNET_HSMTEST_MODULE     path of the library
//	SIGNET_HSMTEST_LABEL      label of a token whose keys of tenant "contract" may be destroyed
//	SIGNET_HSMTEST_PIN_FILE   file with its PIN
//	SIGNET_HSMTEST_INIT_ARGS  as hsm.init_args, if needed
//	SIGNET_HSMTEST_ACCEPT     as hsm.accept, with blanks, if needed
//	SIGNET_HSMTEST_UNPROVEN   not empty: go on although signet would not serve from it
//	SIGNET_HSMTEST_HOLD       not empty: the library stays loaded throughout
//
// What the module can not do is found out first and told; what it says it can do
// it must do right. `make hsm-matrix` runs it on the modules that Debian has.
func TestContractModule(t *testing.T) {
	module := os.Getenv("SIGNET_HSMTEST_MODULE")
	if module == "" {
		t.Skip("SIGNET_HSMTEST_MODULE names no module: see make hsm-matrix")
	}
	pin, err := os.ReadFile(os.Getenv("SIGNET_HSMTEST_PIN_FILE"))
	require.NoError(t, err)
	pin = bytes.TrimSpace(pin)
	open := func(t *testing.T) *hsm.Token {
		t.Helper()
		c := hsm.Config{
			Module: module, TokenLabel: os.Getenv("SIGNET_HSMTEST_LABEL"), InitArgs: os.Getenv("SIGNET_HSMTEST_INIT_ARGS"),
			Accept: strings.Fields(os.Getenv("SIGNET_HSMTEST_ACCEPT")),
			PIN:    func(context.Context) (secret.Bytes, error) { return secret.New(bytes.Clone(pin)), nil },
		}
		if os.Getenv("SIGNET_HSMTEST_UNPROVEN") != "" {
			hsm.Unproven(&c)
		}
		tok, err := hsm.Open(t.Context(), c)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, tok.Close()) })
		return tok
	}
	tok := open(t)
	info, err := tok.Info(t.Context())
	require.NoError(t, err)
	if os.Getenv("SIGNET_HSMTEST_HOLD") == "" {
		require.NoError(t, tok.Close())
	}
	caps := hsmtest.Discover(t, open)
	lacks := make([]string, len(caps.Lacks))
	for i, a := range caps.Lacks {
		lacks[i] = string(a)
	}
	if caps.NoAgreement {
		lacks = append(lacks, "agreement")
	}
	t.Logf("%s %s %s: lacks [%s], slow %v", info.Manufacturer, info.Model, info.Firmware, strings.Join(lacks, " "), caps.Slow)
	caps.Shared = true
	hsmtest.Run(t, open, caps)
}

// What an operator may accept of a module can never let a key out of it.
func TestAcceptIsBounded(t *testing.T) {
	t.Parallel()
	c := hsm.Config{Module: "/m.so", TokenLabel: "t", PIN: func(context.Context) (secret.Bytes, error) { return secret.Bytes{}, nil }}
	for _, name := range []string{"EXTRACTABLE", "SENSITIVE", "WRAP", "UNWRAP", "MODIFIABLE", "SIGN", "local", ""} {
		c.Accept = []string{"LOCAL", name}
		require.ErrorIs(t, c.Validate(), hsm.ErrConfig, name)
	}
	c.Accept = []string{"LOCAL", "ENCRYPT", "DECRYPT"}
	require.NoError(t, c.Validate())
}

package hsm

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/internal/secret"
)

// maxLanes keeps a slip of the keyboard from taking every session of an HSM
// that other applications share.
const maxLanes = 1024

// Config says which token to open and how.
type Config struct {
	// Module is the absolute path of the PKCS#11 library.
	Module string
	// Env is set while the module initialises (SOFTHSM2_CONF and its like) and
	// put back afterwards. One module in one process has one Env: opening it
	// again with another fails.
	Env map[string]string
	// InitArgs is a text that C_Initialize gets in pReserved, for the modules that
	// want one: NSS names its database this way.
	InitArgs string
	// Accept names attributes that this module can not set or does not report as
	// every key rule demands: LOCAL, ENCRYPT, DECRYPT. Those are then neither asked
	// for nor compared. Empty is right for every HSM; docs/hsm-modules.md tells
	// which software needs it.
	Accept []string
	// TokenLabel, TokenSerial select the token; at least one is needed, and
	// exactly one token must match.
	TokenLabel, TokenSerial string
	// PIN is asked once per login, which includes the logins that heal a lost
	// one. It gives a copy away, which hsm wipes when the login is over.
	PIN func(ctx context.Context) (secret.Bytes, error)
	// LoggedIn hears how the C_Login ended that followed a PIN; nil = nobody does.
	// Who gave a PIN may wipe it then.
	LoggedIn func(err error)
	// Lanes is the number of sessions, so of calls in the module at once; 0 is
	// twice GOMAXPROCS.
	Lanes int
	// Instances is how many copies of the module the process loads (see
	// docs/hsm.md); the lanes are spread over them. 0 is 1. SoftHSM signs faster
	// with one per CPU, because its locks are per copy; a module that keeps one
	// connection for the process gains nothing.
	Instances int
	// SessionCopies: signing keys of the roles signer, ocsp, crl and mac are made so
	// that they may be copied into sessions, and used there. It doubles SoftHSM's
	// rate and weakens those keys: see docs/design/0019.
	SessionCopies bool
	// Hang is after how long a call in the module is given up as one that will
	// never end, and a copy of the module takes its place; 0 is 10 s. Callers
	// leave at their own deadlines, whatever it is.
	Hang time.Duration
	// KeepAlive is after how long an idle lane makes a small call, so that nothing
	// on the way to a networked HSM forgets the session; 0 is 30 s, negative never.
	KeepAlive time.Duration
	// Unguarded: calls are made in the caller's goroutine, which saves the
	// hand-over; a call that hangs takes its caller along. For a process that
	// somebody else ends in that case.
	Unguarded bool

	unproven bool // tests only: the module need not keep keys to their roles

	Now     func() time.Time      // nil = time.Now
	Logger  *slog.Logger          // nil = silence
	Metrics prometheus.Registerer // nil = not registered
}

// Validate returns ErrConfig with the first thing that can not work.
func (c *Config) Validate() error {
	switch {
	case !filepath.IsAbs(c.Module):
		return fmt.Errorf("hsm: %w: module must be an absolute path", ErrConfig)
	case c.TokenLabel == "" && c.TokenSerial == "":
		return fmt.Errorf("hsm: %w: a token label or serial is needed", ErrConfig)
	case c.PIN == nil:
		return fmt.Errorf("hsm: %w: a PIN source is needed", ErrConfig)
	case slices.ContainsFunc(c.Accept, func(name string) bool { return acceptable[name] == 0 }):
		return fmt.Errorf("hsm: %w: accept may name %s only", ErrConfig, strings.Join(slices.Sorted(maps.Keys(acceptable)), ", "))
	case c.Lanes < 0 || c.Lanes > maxLanes:
		return fmt.Errorf("hsm: %w: lanes must be 0..%d", ErrConfig, maxLanes)
	case c.Instances < 0 || c.Instances > maxInstances:
		return fmt.Errorf("hsm: %w: instances must be 0..%d", ErrConfig, maxInstances)
	case c.Hang < 0:
		return fmt.Errorf("hsm: %w: hang must not be negative", ErrConfig)
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Lanes == 0 {
		c.Lanes = 2 * runtime.GOMAXPROCS(0)
	}
	c.Instances = max(c.Instances, 1)
	c.Lanes = max(c.Lanes, 2, c.Instances)
	if c.Hang == 0 {
		c.Hang = 10 * time.Second
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = 30 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

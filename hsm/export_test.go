package hsm

import (
	"path/filepath"

	p11 "github.com/miekg/pkcs11"

	"github.com/signet-hsm/signet/hsm/internal/cryptoki"
)

// Cryptoki lets the tests of this package wrap a module.
type Cryptoki = api

// Job and RawMechanism are what a wrapper of the hot calls is given.
type (
	Job          = cryptoki.Job
	RawMechanism = rawMechanism
)

// Bare returns the module behind a Cryptoki, call by call.
func Bare(c Cryptoki) *p11.Ctx { return c.(*library).Ctx }

// Wrap makes the next load of the module at path go through f.
func Wrap(path string, f func(Cryptoki) Cryptoki) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		panic(err)
	}
	registry.Lock()
	defer registry.Unlock()
	if registry.wrap == nil {
		registry.wrap = map[string]func(api) api{}
	}
	registry.wrap[real] = f
}

// SetCopyLife changes copyLife until the returned function is called.
func SetCopyLife(ns int64) func() {
	old := copyLife
	copyLife = ns
	return func() { copyLife = old }
}

// Loaded counts the modules that are loaded.
func Loaded() int {
	registry.Lock()
	defer registry.Unlock()
	return len(registry.modules)
}

// Anchor returns the session that keeps the login.
func (t *Token) Anchor() uint { return uint(t.engine.(*local).instances[0].slot.anchor) }

// Unproven lets a test open a module that does not keep keys to their roles.
func Unproven(c *Config) { c.unproven = true }

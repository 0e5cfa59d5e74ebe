package faultmodule

import (
	"regexp"
	"sync/atomic"
	"time"

	_ "embed"
)

//go:embed shim/shim.c
var source []byte

// functions are the names of CK_FUNCTION_LIST in its order, as the shim has them.
var functions = func() map[string]uint32 {
	m := map[string]uint32{}
	for _, f := range regexp.MustCompile(`(?m)^\tF\((C_\w+), \d\)`).FindAllSubmatch(source, -1) {
		m[string(f[1])] = uint32(len(m))
	}
	return m
}()

// Action is what a rule does to a call.
type Action uint32

const (
	_        Action = iota
	Return          // answer Value; with Late after the call was really made
	Delay           // wait Wait, then go on
	Hang            // do not go on before the rule is stopped
	Abort           // abort(3) in the library
	Segfault        // a write to nowhere
	Kill            // SIGKILL, as the machine's memory killer does
	CloseAll        // close all sessions of all slots for real, then go on
	Logout          // log out for real, then go on
	Flip            // flip one bit of what the call puts out
	Lie             // C_GetAttributeValue: the first byte of attribute Value becomes Extra
	Half            // C_GenerateKeyPair: destroy the private half, answer Value
	Leak            // lose Value bytes of memory, then go on
)

// Rule says which calls are struck and how.
type Rule struct {
	On     string // "C_Sign"; "" = every function
	After  int    // so many calls are spared first
	Times  int    // so many are struck; 0 = all
	Chance float64
	Seed   uint64
	// Chance, when not 0, is the probability that one is struck, decided by Seed
	// and the call's number.

	Do    Action
	Late  bool // Return, Abort, Segfault, Kill: after the real call
	Value uint // see Action
	Extra byte
	Wait  time.Duration
}

// rule and control have the layout of their namesakes in shim.c.
type rule struct {
	active                     atomic.Uint32
	action, function, late     uint32
	after, times, chance, seed uint64
	value, extra               uint64
	seen, hits                 atomic.Uint64
	_                          [6]uint64
}

const (
	maxRules = 256
	magic    = 0x51676e74
)

type control struct {
	magic, size uint32
	token       atomic.Uint32
	_           uint32
	calls       [68]atomic.Uint64
	real        [1024]byte
	rules       [maxRules]rule
}

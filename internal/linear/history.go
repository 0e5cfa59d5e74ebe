package linear

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// Kind is what a call asks for.
type Kind uint8

// The kinds. Objects of Signature and Unblock are registrations, of Token token
// headers, of OTP operations.
const (
	Signature Kind = iota + 1
	Unblock
	Token
	OTP
)

func (k Kind) String() string { return [...]string{"?", "signature", "unblock", "token", "otp"}[k] }

// Wrong is the Index of a signature or OTP that no counter gives.
const Wrong = -1

// Call is one request.
type Call struct {
	Kind       Kind
	Object     string // what the answer depends on; calls of two objects never meet
	Index      int    // the counter it was signed with, from 0, or Wrong; of Signature and OTP
	Possession bool   // signed by possession alone; of Signature
}

// Answer is what came back.
type Answer struct {
	Unknown   bool // nothing, or nothing that says whether it happened
	Valid     bool
	Status    string // of the registration; of Signature
	Remaining int    // attempts; of Signature
	Refused   string // why there is no verdict: one of the texts below
}

// Why a call was refused.
const (
	RefusedState     = "state"     // the object's state does not allow it
	RefusedUndecided = "undecided" // an earlier check of the same OTP has no known outcome
)

// History is what clients saw. The zero value is not ready: NewHistory.
type History struct {
	began time.Time

	mu      sync.Mutex
	objects map[string][]porcupine.Operation
}

// NewHistory begins one.
func NewHistory() *History {
	return &History{began: time.Now(), objects: map[string][]porcupine.Operation{}}
}

// Record calls, and keeps when it did and what came back. One client makes one
// call at a time. When call reports false it was not even sent, and is forgotten.
func (h *History) Record(client int, c Call, call func() (Answer, bool)) (Answer, bool) {
	from := time.Since(h.began)
	a, sent := call()
	to := time.Since(h.began)
	if sent {
		h.add(client, c, a, from, to)
	}
	return a, sent
}

func (h *History) add(client int, c Call, a Answer, from, to time.Duration) {
	op := porcupine.Operation{ClientId: client, Input: c, Call: int64(from), Output: a, Return: int64(to)}
	if a.Unknown { // it may still be on its way
		op.Return = math.MaxInt64
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.objects[c.Object] = append(h.objects[c.Object], op)
}

// Figures counts a history.
type Figures struct {
	Objects, Calls, Accepted, Unknown int
	Overlapping                       int // calls that ran beside another one of the same object
	Never                             int // token headers and operations of which nothing was accepted
}

func (f Figures) String() string {
	return fmt.Sprintf("%d calls of %d objects: %d accepted, %d without a known outcome, %d beside another of the same object, %d objects without an acceptance",
		f.Calls, f.Objects, f.Accepted, f.Unknown, f.Overlapping, f.Never)
}

// Figures counts what was recorded so far.
func (h *History) Figures() Figures {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := Figures{Objects: len(h.objects)}
	for _, ops := range h.objects {
		f.Calls += len(ops)
		accepted := f.Accepted
		for i, op := range ops {
			a := op.Output.(Answer)
			if a.Unknown {
				f.Unknown++
			} else if a.Valid && op.Input.(Call).Kind != Unblock {
				f.Accepted++
			}
			if slices.ContainsFunc(ops[max(0, i-64):min(len(ops), i+64)], func(o porcupine.Operation) bool {
				return o.ClientId != op.ClientId && o.Call <= op.Return && op.Call <= o.Return
			}) {
				f.Overlapping++
			}
		}
		if kind := ops[0].Input.(Call).Kind; f.Accepted == accepted && (kind == Token || kind == OTP) {
			f.Never++
		}
	}
	return f
}

// Check looks for the order, object by object, each for at most limit. The error
// holds the history of the first object that has none, or that took too long.
func (h *History) Check(limit time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, ops := range h.objects {
		m := model(ops[0].Input.(Call).Kind)
		if got := porcupine.CheckOperationsTimeout(m, ops, limit); got != porcupine.Ok {
			return fmt.Errorf("linear: %s: no order found (%s):\n%s", name, got, transcript(ops))
		}
	}
	return nil
}

func transcript(ops []porcupine.Operation) string {
	ops = slices.Clone(ops)
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var b strings.Builder
	for _, op := range ops {
		end := "-"
		if op.Return != math.MaxInt64 {
			end = time.Duration(op.Return).String()
		}
		c, a := op.Input.(Call), op.Output.(Answer)
		fmt.Fprintf(&b, "%14s .. %14s  client %3d  %s index %d possession %t -> %+v\n",
			time.Duration(op.Call), end, op.ClientId, c.Kind, c.Index, c.Possession, a)
	}
	return b.String()
}

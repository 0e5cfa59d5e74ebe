package signature

import "sync"

// Match tells where a signature matched.
type Match struct {
	Offset  int     // counters skipped: 0 when the expected one was used
	Next    Counter // the counter to expect from now on
	Factors Factor  // the factors that signed
}

// Verify looks for the counter, from ctr on and at most lookAhead of them, under
// which the header's signature covers the request; the nonce is the header's,
// req.Nonce is not read. The caller must store Match.Next before it trusts the
// match, by compare-and-swap on ctr: that store is the replay protection.
//
// Timing: the components of a counter are computed and compared together, so
// that nobody can guess one factor after the other; a wrong signature always
// costs the whole window. A right one ends the search: what that shows, the
// offset, the signer knows, and the answer already says that it matched. Forms
// that can not match are refused without computing; they are visible to anyone.
//
// No allocations for bodies of common size.
func (k *Keys) Verify(h *Header, req Request, ctr Counter, lookAhead int) (Match, bool) {
	if h.Signature.format != h.Version.Format() {
		return Match{}, false
	}
	req.Nonce = h.Nonce[:]
	return k.search(&h.Signature, req, ctr, lookAhead, [2]Factor{h.Factors})
}

// VerifyOffline is Verify for a decimal signature that a person typed. It tries
// possession with knowledge and, when allowed, possession with biometry within
// each counter. For a signature without match Match.Factors is zero.
func (k *Keys) VerifyOffline(s *Signature, req Request, ctr Counter, lookAhead int, biometry bool) (Match, bool) {
	if s.format != Decimal {
		return Match{}, false
	}
	types := [2]Factor{PossessionKnowledge}
	if biometry {
		types[1] = PossessionBiometry
	}
	return k.search(s, req, ctr, lookAhead, types)
}

// search tries the types (zero: none) under each counter.
func (k *Keys) search(want *Signature, req Request, ctr Counter, lookAhead int, types [2]Factor) (Match, bool) {
	w := getWork()
	defer w.put()
	w.data = AppendBaseString(w.data[:blockSize], req)
	w.got = *want // form and number of components; the slots are overwritten
	for offset := range lookAhead {
		for _, f := range types {
			if !f.Valid() || f.Count() != want.Components() {
				continue
			}
			k.compute(w, f, &ctr)
			if w.got.equal(want) == 1 {
				return Match{Offset: offset, Next: ctr.Next(), Factors: f}, true
			}
		}
		ctr = ctr.Next()
	}
	return Match{}, false
}

// compute fills w.got. The chain is that of the reference code: component i is
// keyed by HMAC(k_i, CTR) mixed with the keys 1..i, never with key 0. (The
// documentation starts every chain with key 0; no vector of two factors agrees.)
func (k *Keys) compute(w *work, f Factor, ctr *Counter) {
	var mac [maxComponents][32]byte
	n := 0
	for i := range k.factor {
		if f&(1<<i) != 0 {
			mac[n] = k.factor[i].mac(&w.resumable, ctr)
			n++
		}
	}
	for i := range n {
		d := mac[i]
		for j := range i {
			d = hmacShort(mac[j+1][:], d[:])
		}
		d = hmacHeadroom(d[:], w.data)
		w.got.setComponent(i, &d)
	}
}

// work is the scratch space of one computation. data starts with a block of
// headroom so that hashing needs no second buffer.
type work struct {
	data []byte
	got  Signature
	resumable
}

// maxPooled keeps a rare huge body from staying in memory.
const maxPooled = 64 << 10

var workPool = sync.Pool{New: func() any {
	return &work{data: make([]byte, blockSize, 1024), resumable: newResumable()}
}}

func getWork() *work { return workPool.Get().(*work) }

// put wipes the space: it held the application secret and padded keys.
func (w *work) put() {
	clear(w.data)
	w.got = Signature{}
	w.wipe()
	if cap(w.data) <= maxPooled {
		workPool.Put(w)
	}
}

package signature

// factorKey is one factor's key, prepared for HMAC over a counter.
type factorKey struct{ key [16]byte }

func newFactorKey(key *[16]byte) factorKey { return factorKey{key: *key} }

// mac is HMAC(key, counter).
func (k *factorKey) mac(c *Counter) [32]byte { return hmacShort(k.key[:], c[:]) }

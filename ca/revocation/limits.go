package revocation

import "time"

// MaxShards bounds the CRLs of one issuer.
const MaxShards = 1024

const (
	maxRequest  = 8 << 10  // bytes of an OCSP request; one CertID needs about 100
	cacheBytes  = 64 << 20 // of CRLs kept in memory
	dueShards   = 64       // CRLs looked at in one round
	dueAnswers  = 32       // OCSP responses claimed and refreshed at a time
	moveRows    = 10_000   // tombstones changed by one statement
	retryPause  = 5 * time.Second
	lingerTime  = 5 * time.Second // for a statement after its context has ended
	statusEvery = 15 * time.Second
	ensureEvery = time.Minute
)

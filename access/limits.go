package access

import "time"

const (
	maxToken   = 16 << 10         // bytes of a bearer token
	maxJWKS    = 1 << 20          // bytes of a JWKS document
	maxName    = 255              // bytes of a subject, username or application id
	maxSecret  = 256              // bytes of a presented Basic password; ours have 43
	minRSABits = 2048             // smaller keys in a JWKS are ignored
	clockSkew  = 30 * time.Second // between the identity provider and us

	keysFresh    = 10 * time.Minute // then a JWKS is fetched again in passing
	keysStale    = 24 * time.Hour   // then, without a good fetch, its keys are no longer used
	keysCooldown = 10 * time.Second // between two fetches of one realm, whatever tokens say
	keysTimeout  = 5 * time.Second  // of one fetch

	tokenCached = 60 * time.Second // a good token is not verified again for so long
	tokenCache  = 10_000           // tokens

	verdictCached = 5 * time.Second // a Basic verdict; bounds how long another node's change goes unseen
	verdictCache  = 10_000          // verdicts
	lookupWithin  = 5 * time.Second // of one lookup, shared by all who wait for it
)

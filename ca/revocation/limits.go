package revocation

// MaxShards bounds the CRLs of one issuer.
const MaxShards = 1024

package issuance

import "time"

const (
	maxRequest     = 16 << 10 // bytes of a PKCS#10 request; an RSA-8192 one needs 2.5 KiB
	maxCertificate = 16 << 10
	maxSigned      = 8 << 20 // bytes of anything that is signed
	maxSignature   = 1 << 10
	minRSABits     = 2048
	maxRSABits     = 8192 // verification cost grows with the square of the size
	minExponent    = 65537
	fermatRounds   = 110 // finds primes that differ below about their middle bit
	maxBackdate    = 24 * time.Hour
	maxValidity    = 30 * 366 * 24 * time.Hour
	maxNoCheck     = 31 * 24 * time.Hour
	maxChain       = 8
	maxUsages      = 16 // entries in any list of a profile
	maxAltNames    = 32 // in one certificate
	maxLocations   = 4  // of a kind
	maxLocation    = 255
)

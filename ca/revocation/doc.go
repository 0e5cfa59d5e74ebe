// Package revocation keeps the tombstones of revoked certificates, from which
// CRLs and OCSP responses are made.
package revocation

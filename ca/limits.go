package ca

import "time"

const (
	gateway = "GATEWAY" // the profile whose certificates need not be a user's

	maxName = 64  // characters of a signer's name: it becomes a common name
	maxUser = 255 // characters

	minPageSize     = 5
	maxPageSize     = 100
	defaultPageSize = 20

	defaultLease     = 2 * time.Minute
	minLease         = 100 * time.Millisecond
	maxRenewGrace    = 90 * 24 * time.Hour
	defaultRenewals  = 20 // of one client in an hour
	defaultReconcile = 10 * time.Second
	minRotateAfter   = time.Hour
	issuerShards     = 1 // CRLs of the issuer CA: it signs signers, of which there are few

	maxBatch      = 256    // certificates in one IssueBatch
	batchWorkers  = 16     // more of them share a commit
	revokeBatch   = 500    // certificates in one transaction of RevokeIssued
	maxSuccessors = 10_000 // renewals that are revoked together with a certificate
	renewPage     = 100    // signers in one look of RenewAll
	reconcilePage = 50     // rows in one step of the reconciler

	maxAttempts = 20 // tries to renew before it counts as FAILED: about two hours
	firstRetry  = time.Second
	lastRetry   = 10 * time.Minute

	maxIntents  = 16 // tries for a free generation, or for a signer that stays ACTIVE
	cleanupTime = 5 * time.Second
	idLength    = 26
)

package ca

import "time"

const (
	maxName = 64  // characters of a signer's name: it becomes a common name
	maxUser = 255 // characters

	minPageSize     = 5
	maxPageSize     = 100
	defaultPageSize = 20

	maxIntents  = 16 // tries for a free generation, or for a signer that stays ACTIVE
	cleanupTime = 5 * time.Second
	idLength    = 26
)

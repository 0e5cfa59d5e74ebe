package rest

import "time"

const (
	defaultBody    = 64 << 10         // bytes of a request body, unless the route says otherwise
	defaultTimeout = 10 * time.Second // from the end of the header to the handler's return
	maxDepth       = 32               // nested objects and arrays in a body
	maxItems       = 1000             // members of one object or array in a body
	maxFieldName   = 64               // bytes of a client's field name that an answer repeats
	retryAfter     = "2"              // seconds, with 503 and other outages
)
